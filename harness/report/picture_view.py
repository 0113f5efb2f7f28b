"""Draw the time-line of a test from its record."""

import json
from functools import lru_cache

from harness.report.outcomes import Record
from harness.timeline import as_svg, first_of


def picture(record: Record, *, alone: bool) -> str:
    """Return the time-line of a test as SVG, "" if the record has no steps.

    With ``alone``, the SVG is a complete file. Otherwise it can be shown only in a page that contains the style sheet
    and the legend.
    """
    runs = [verdict.get("data", {}) for verdict in record.get("verdicts", ())]
    return _picture(json.dumps(runs), f"Time-line of {record.get('case', 'the run')}", alone)


@lru_cache(maxsize=2000)
def _picture(runs: str, title: str, alone: bool) -> str:
    """Return the time-line as SVG, "" if there are no steps. ``runs`` is the data of all verdicts of a test, as JSON.

    The result is cached, because a case often has the same steps in all configurations.
    """
    drawn = first_of(json.loads(runs))
    return "" if drawn is None else as_svg(*drawn, alone=alone, title=title)
