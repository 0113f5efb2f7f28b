"""Helpers that have nothing to do with batching: text, subprocesses, garbage collection and timing."""
