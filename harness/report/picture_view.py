"""Draw the time-line of a test from its result."""

import json
from functools import lru_cache

from harness.report.outcomes import Record
from harness.timeline import as_svg, first_of


def picture(record: Record, *, alone: bool) -> str:
    """Return the picture as SVG, empty if there are no steps.

    ``alone``: for a file; otherwise for a page that has its style.
    """
    runs = [verdict.get("data", {}) for verdict in record.get("verdicts", ())]
    return _picture(json.dumps(runs), f"Time-line of {record.get('case', 'the run')}", alone)


@lru_cache(maxsize=2000)
def _picture(runs: str, title: str, alone: bool) -> str:
    """Return the picture. Cached by content, because a case usually has the same steps in every configuration."""
    drawn = first_of(json.loads(runs))
    return "" if drawn is None else as_svg(*drawn, alone=alone, title=title)
