"""The time-line of a test, from what its result says of its run."""

from markupsafe import Markup

from harness.report.outcomes import Record
from harness.timeline import as_svg, of_data


def picture(record: Record) -> Markup:
    """The picture as SVG, to stand in a page that has its style; empty where the result has no steps to draw."""
    for verdict in record.get("verdicts", ()):
        try:
            drawn = of_data(verdict.get("data", {}))
        except (TypeError, ValueError):
            continue  # steps of another kind of engine than these pictures are for
        if drawn is not None:
            seen, expected = drawn
            title = f"Time-line of {record.get('case', 'the run')}"
            return Markup(as_svg(seen, expected if expected != seen else None, alone=False, title=title))
    return Markup("")
