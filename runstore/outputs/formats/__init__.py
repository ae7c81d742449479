"""The formats of outputs, one room each, and the registry of their names and types."""
