"""Behaviour cases: actions at an entry point, in order, and their expected outcomes."""
