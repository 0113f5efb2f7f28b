"""One HTML page about a run: everything in one file, nothing fetched, readable without scripts where it matters.

What came of each test stands in the page as it is, and so do the first problems in full. The rest (tables and
time-lines of tests that passed) is packed, and unpacked by the browser when a test is opened: a thousand cases stay
below 3 MB.
"""

import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.outcomes import PROBLEMS, SYMBOLS, Record
from harness.report.packing import packed
from harness.report.records import completed
from harness.report.requirement_view import requirement_matrix
from harness.report.result_view import result_view
from harness.report.run_view import counted, run_view, summary_of
from harness.report.suite_view import suite_views
from harness.timeline.svg import legend, patterns, style

MOST_INLINE = 10
"""Problems that stand in the page as they are, and open; where more went wrong, the rest is packed like what passed."""


def write_page(path: Path, header: Record, results: Sequence[Record], footer: Record) -> None:
    """Write the page about a run: ``header`` and ``footer`` are about all of it, ``results`` one a test."""
    records = completed(results)
    views = [result_view(i, record) for i, record in enumerate(records)]
    problems = [view for status in PROBLEMS for view in views if view.status == status]
    inline = {view.anchor for view in problems[:MOST_INLINE]}
    environment = _environment()
    body: Any = environment.get_template("result.html.j2").module.body  # type: ignore[attr-defined]
    page = environment.get_template("page.html.j2").render(
        run=run_view(header, footer),
        summary=summary_of(views, int(footer.get("exitstatus", 0))),
        counts=counted(views),
        problems=problems,
        rules=Counter(view.rule for view in problems if view.rule).most_common(),
        skips=Counter(view.reason for view in views if view.status == "skipped").most_common(),
        known=Counter(view.reason for view in views if view.status == "xfailed").most_common(),
        requirements=requirement_matrix(header, views),
        suites=suite_views(views),
        symbols=SYMBOLS,
        bad=PROBLEMS,
        inline=inline,
        bodies=packed({view.anchor: str(body(view)) for view in views if view.anchor not in inline}),
        css=_asset("page.css") + Markup(style()),
        js=_asset("page.js"),
        hatchings=Markup(patterns()),
        legend=Markup(legend()),
    )
    # Half a surrogate pair can come out of a tokenizer; it must not cost the whole report.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> Markup:
    return Markup(files("harness.report").joinpath(name).read_text(encoding="utf-8").strip())


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _printable(value: object) -> object:
    """Control characters, which HTML cannot hold, as escapes."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", value)
