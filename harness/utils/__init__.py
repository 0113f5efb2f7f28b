"""Helpers that have nothing to do with batching: files, subprocesses, garbage collection, time, optional packages."""
