"""The time-line of a test, from what its result says of its run."""

from harness.report.outcomes import Record
from harness.timeline import as_svg, first_of


def picture(record: Record, *, alone: bool) -> str:
    """The picture as SVG, for a file (``alone``) or for a page that has its style; empty where there are no steps."""
    drawn = first_of(verdict.get("data", {}) for verdict in record.get("verdicts", ()))
    if drawn is None:
        return ""
    return as_svg(*drawn, alone=alone, title=f"Time-line of {record.get('case', 'the run')}")
