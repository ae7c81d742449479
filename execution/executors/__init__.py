"""Who runs steps, and where."""
