"""Helpers that are independent of batching: text, subprocesses, garbage collection, timing."""
