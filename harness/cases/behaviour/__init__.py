"""Behaviour cases: actions at an entry point, one after the other, and what must come of each."""
