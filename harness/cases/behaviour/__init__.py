"""Behaviour cases: actions at a front door, one after the other, and what must come of each."""
