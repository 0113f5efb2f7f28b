"""Continuous batching with one tkv for the whole batch (docs/scheduling-rules.md)."""
