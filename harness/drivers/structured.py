"""Whether the reference engine can have structured outputs here."""

from importlib.util import find_spec

from harness.drivers.base import STRUCTURED_OUTPUTS

PACKAGE = "llguidance"
"""What compiles them, of ``spyre-cb[structured]``."""


def structured_outputs() -> frozenset[str]:
    """Return the capability if the package is installed, else nothing."""
    return frozenset({STRUCTURED_OUTPUTS} if find_spec(PACKAGE) is not None else ())
