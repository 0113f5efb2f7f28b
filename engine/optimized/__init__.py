"""Faster ways to compute the same: each is tested equal to the plain path."""
