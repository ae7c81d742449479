"""What a user writes; compiles to runstore's graph data. Nothing here runs an op."""
