"""Write the comparison of two runs as an HTML page, one file without external resources."""

from pathlib import Path

from harness.compare.changes import MEANING, Comparison, Kind
from harness.compare.results import reason_of
from harness.compare.tables import as_cells, tables_side_by_side
from harness.report.html import asset, environment
from harness.utils.files import write_text_whole


def write_comparison(path: Path, comparison: Comparison, sentence: str) -> None:
    """Write the page to ``path``. ``sentence`` is the summary at the top of the page.

    Raises OSError if the file can't be written.
    """
    page = (
        environment("harness.compare")
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            sentence=sentence,
            kinds=list(Kind),
            meaning=MEANING,
            tables={change.key: tables_side_by_side(change) for change in comparison.different},
            reason=reason_of,
            cells=as_cells,
            css=asset("page.css"),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, page)
