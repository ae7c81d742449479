"""Outputs: values to bytes, bytes to a place, and back. It knows no event and no graph."""
