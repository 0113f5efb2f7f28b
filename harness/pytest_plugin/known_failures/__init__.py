"""Failures that are known: a list beside the suites, with conditions and reasons. See docs/hardware.md."""
