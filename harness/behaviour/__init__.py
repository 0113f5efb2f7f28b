"""Behaviour cases: actions at a front door, one after the other, and what must come of each."""

from harness.behaviour.perform import perform

__all__ = ["perform"]
