"""Write the HTML page about a run, as one file without external resources.

The outcomes of all tests, and the details of the first problems, are plain HTML that needs no script. The details of
other tests are compressed, and are unpacked by the page's script when the reader opens a test, so that a page with a
thousand cases is smaller than 3 MB.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.report.broken_view import broken_requirements
from harness.report.glossary import WORDS
from harness.report.history import history
from harness.report.html import asset, environment
from harness.report.latency_view import latency_tables
from harness.report.outcomes import PROBLEMS, SYMBOLS
from harness.report.packing import packed
from harness.report.reading import Recorded
from harness.report.requirement_view import requirement_matrix
from harness.report.result_view import ResultView, result_views
from harness.report.run_view import counted, run_view, summary_of
from harness.report.suite_view import suite_views
from harness.schedulers import SPECS
from harness.timeline.legend import patterns, style
from harness.timeline.svg import legend
from harness.utils.files import write_text_whole

MAX_SLOWEST = 10
MAX_INLINE = 10
"""Number of problems whose details are plain HTML. The details of further problems are compressed."""


def _own_legend(views: Sequence[ResultView]) -> frozenset[str]:
    """Return the names of the legend entries that only the schedulers of these tests need.

    Entries that all schedulers need are not included.
    """
    markers = {marker for view in views for marker in view.markers}
    shown = (scheduler.drawing.legend for scheduler in SPECS.values() if scheduler.format.marker in markers)
    return frozenset[str]().union(*shown)


def write_page(path: Path, run: Recorded, earlier: Sequence[Recorded] = ()) -> None:
    """Write the HTML page about a run to ``path``. With ``earlier`` runs, the page has a history.

    Raises OSError if the file can't be written.
    """
    views = result_views(run.results)
    about = {**run.header, **(run.footer or {}), "running": run.running, "missing": run.missing}
    problems = [view for status in PROBLEMS for view in views if view.status == status]
    inline = {view.anchor for view in problems[:MAX_INLINE]}
    templates = environment("harness.report")
    body: Any = templates.get_template("result.html.j2").module.body  # type: ignore[attr-defined]
    page = templates.get_template("page.html.j2").render(
        run=run_view(about),
        summary=summary_of(views, about, cut_off=run.footer is None),
        counts=counted(views),
        missing=run.missing,
        problems=problems,
        broken=broken_requirements(about, views),
        rules=Counter(view.rule for view in problems if view.rule).most_common(),
        skips=Counter(view.reason for view in views if view.status == "skipped").most_common(),
        known=Counter(view.reason for view in views if view.status == "xfailed").most_common(),
        requirements=requirement_matrix(about, views),
        suites=suite_views(views),
        history=history(run, earlier),
        latency=latency_tables(run.results),
        slowest=sorted((view for view in views if view.took), key=lambda view: -view.took)[:MAX_SLOWEST],
        symbols=SYMBOLS,
        bad=PROBLEMS,
        inline=inline,
        bodies=packed({view.anchor: str(body(view)) for view in views if view.anchor not in inline}),
        css=asset("page.css") + Markup(style()),
        js=asset("page.js"),
        hatchings=Markup(patterns()),
        words=WORDS,
        legend=Markup(legend(_own_legend(views))),
    )
    # A tokenizer can return a lone surrogate, which can't be encoded.
    write_text_whole(path, page)
