"""Two runs on one HTML page: everything in one file, nothing fetched."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.compare.changes import MEANING, Comparison, Kind
from harness.compare.results import reason_of
from harness.compare.tables import as_cells, tables_side_by_side


def write_comparison(path: Path, comparison: Comparison, sentence: str) -> None:
    """Write the page. Raises OSError."""
    environment = Environment(
        loader=PackageLoader("harness.compare", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("compare.html.j2").render(
        comparison=comparison,
        sentence=sentence,
        kinds=list(Kind),
        meaning=MEANING,
        tables={change.key: tables_side_by_side(change) for change in comparison.different},
        reason=reason_of,
        cells=as_cells,
        css=Markup(files("harness.report").joinpath("page.css").read_text(encoding="utf-8").strip()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
