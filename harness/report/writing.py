"""Write the requested reports, at the end of a pytest run or for ``spyre-cb report``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.reading import Recorded


class ReportError(Exception):
    """A report can't be written. The message is one sentence with the path of the report."""


@dataclass(frozen=True)
class Wanted:
    """The path of each report, None if the report is not requested.

    With ``clean_allure``, the folder of Allure results is emptied first.
    """

    html: Path | None = None
    allure: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    clean_allure: bool = False


def write_reports(wanted: Wanted, run: Recorded, earlier: Sequence[Recorded] = ()) -> Iterator[str]:
    """Write the requested reports about a run, and yield a line of text with the path of each.

    ``earlier`` are runs for the history on the HTML page. Raises ReportError if a report can't be written.
    """
    # The modules of reports are imported only if needed. The page needs jinja2.
    if wanted.html:
        from harness.report.page import write_page

        page = wanted.html
        yield _written("report", page, lambda: write_page(page, run, earlier))
    if wanted.allure:
        from harness.report.allure_files import write_allure

        folder = wanted.allure
        yield _written("allure results", folder, lambda: write_allure(folder, run, clean=wanted.clean_allure))
    if wanted.junit:
        from harness.report.junit import write_junit

        xml = wanted.junit
        yield _written("junit", xml, lambda: write_junit(xml, run))
    if wanted.markdown:
        from harness.report.markdown import write_markdown

        summary = wanted.markdown
        yield _written("markdown", summary, lambda: write_markdown(summary, run))


def _written(name: str, path: Path, write: Callable[[], None]) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from error
    return f"{name}: {path}"
