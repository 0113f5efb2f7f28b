"""How many examples a property test that takes seconds may have: few in every run, many at night."""

import os

NIGHTLY = "SPYRE_CB_NIGHTLY"
"""Set to 1 for the large budget."""


def examples(few: int, many: int) -> int:
    """The one or the other."""
    return many if os.environ.get(NIGHTLY) == "1" else few
