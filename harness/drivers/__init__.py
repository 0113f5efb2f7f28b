"""Drivers: how the harness talks to an engine. Nothing else in the harness knows any engine."""
