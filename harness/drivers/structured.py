"""Determine whether the reference engine supports structured outputs in this installation."""

from importlib.util import find_spec

from harness.drivers.base import STRUCTURED_OUTPUTS

PACKAGE = "llguidance"
"""The package that the engine uses for structured outputs. It is installed with ``spyre-cb[structured]``."""


def structured_outputs() -> frozenset[str]:
    """Return a set with the capability STRUCTURED_OUTPUTS if llguidance is installed, else an empty set."""
    return frozenset({STRUCTURED_OUTPUTS} if find_spec(PACKAGE) is not None else ())
