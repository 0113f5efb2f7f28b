"""The number of examples of slow property tests: few in every run, many in the nightly run."""

import os

NIGHTLY = "SPYRE_CB_NIGHTLY"
"""The environment variable that is 1 in the nightly run."""


def examples(few: int, many: int) -> int:
    """Return the number of examples of a property test: ``many`` in the nightly run, else ``few``."""
    return many if os.environ.get(NIGHTLY) == "1" else few
