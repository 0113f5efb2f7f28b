"""Faster equivalents of the plain path: each is tested to give the same results."""
