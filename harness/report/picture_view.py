"""The time-line of a test, from what its result says of its run."""

import json
from functools import lru_cache

from harness.report.outcomes import Record
from harness.timeline import as_svg, first_of


def picture(record: Record, *, alone: bool) -> str:
    """The picture as SVG, for a file (``alone``) or for a page that has its style; empty where there are no steps."""
    runs = [verdict.get("data", {}) for verdict in record.get("verdicts", ())]
    return _picture(json.dumps(runs), f"Time-line of {record.get('case', 'the run')}", alone)


@lru_cache(maxsize=2000)
def _picture(runs: str, title: str, alone: bool) -> str:
    """By content: a case has the same steps in every configuration, where all is well, and is drawn once."""
    drawn = first_of(json.loads(runs))
    return "" if drawn is None else as_svg(*drawn, alone=alone, title=title)
