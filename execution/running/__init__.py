"""One epoch of a run: the engine, and one attempt of one step."""
