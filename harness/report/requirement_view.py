"""Prepare the matrix that shows how many tests of each requirement passed in each configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record, count
from harness.report.result_view import ResultView
from harness.utils.text import plural


@dataclass(frozen=True)
class RequirementCell:
    """A cell of the requirement matrix: the tests of one requirement in one configuration.

    ``status`` is the worst outcome of the cell's tests, "" if the cell has no tests. ``text`` says how many of the
    tests that ran have problems (such as ``2 of 3``), or how many passed if none has problems; if all were skipped or
    are known failures, it says so. ``anchor`` is the anchor of one of the cell's tests on the page. ``find`` is the
    text to enter into the page's filter to see all tests of the cell.
    """

    status: str
    text: str
    anchor: str
    find: str


@dataclass(frozen=True)
class RequirementRow:
    """A row of the requirement matrix. ``must`` is the requirement as a sentence, "" if it is not known.

    ``source`` names the section of the rules with the requirement. For a requirement that no case can test, ``remark``
    says how it is tested instead.
    """

    name: str
    must: str
    source: str
    cells: tuple[RequirementCell, ...]
    remark: str = ""


@dataclass(frozen=True)
class RequirementMatrix:
    """The requirement matrix, with a row for each requirement and a column for each configuration.

    ``sentence`` says how many requirements hold, how many are violated, and how many were not tested.
    """

    sentence: str
    columns: tuple[str, ...]
    rows: tuple[RequirementRow, ...]


def requirement_matrix(about: Record, views: Sequence[ResultView]) -> RequirementMatrix:
    """Return the requirement matrix of a run. Violated requirements come first, those that were not tested last.

    ``about`` has the fields of the header and the footer of the run's results file, and ``views`` are its tests.
    """
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    by_cell: dict[tuple[str, str], list[ResultView]] = {}
    for view in views:
        for name in view.requirements.split():
            by_cell.setdefault((name, view.column), []).append(view)
    columns = tuple(dict.fromkeys(view.column for view in views if view.requirements))
    names = list(dict.fromkeys([*listed, *(name for name, _ in by_cell)]))
    rows = sorted((_row(name, listed.get(name, {}), columns, by_cell) for name in names), key=_rank)
    return RequirementMatrix(_sentence(rows), columns, tuple(rows))


def _row(
    name: str,
    listed: Mapping[str, str],
    columns: Sequence[str],
    by_cell: Mapping[tuple[str, str], Sequence[ResultView]],
) -> RequirementRow:
    cells = tuple(_cell(name, column, by_cell.get((name, column), ())) for column in columns)
    remark = "tested by the unit tests of the reference engine" if listed.get("by") == "tests" else ""
    return RequirementRow(name, listed.get("must", ""), listed.get("source", ""), cells, remark)


def _cell(name: str, column: str, views: Sequence[ResultView]) -> RequirementCell:
    find = f"{name} @{column}"
    ran = [view for view in views if view.status != "skipped"]
    if not ran:
        text = f"{len(views)} skipped" if views else "not run"
        return RequirementCell("skipped" if views else "", text, views[0].anchor if views else "", find)
    bad = [view for view in ran if view.status in PROBLEMS]
    if bad:
        worst = next(status for status in PROBLEMS if count(bad, status))
        first = next(view for view in bad if view.status == worst)
        return RequirementCell(worst, f"{len(bad)} of {len(ran)}", first.anchor, find)
    known = count(ran, "xfailed")
    if known == len(ran):
        return RequirementCell("xfailed", f"{known} known", ran[0].anchor, find)
    return RequirementCell("passed", f"{len(ran) - known} of {len(ran)}", ran[0].anchor, find)


def _sentence(rows: Sequence[RequirementRow]) -> str:
    """Return a sentence that says how many requirements hold, are violated, and were not tested."""
    states = [_state(row) for row in rows]
    parts = [f"{states.count('hold')} hold in all configurations that were tested"]
    parts += [f"{states.count('broken')} are violated in at least one"] if "broken" in states else []
    parts += [f"{states.count('known')} are violated only by known failures"] if "known" in states else []
    parts += [f"{states.count('untested')} were not tested by any case that ran"] if "untested" in states else []
    return f"Of {plural(len(rows), 'requirement')} {', '.join(parts)}."


def _rank(row: RequirementRow) -> int:
    return ("broken", "known", "hold", "untested").index(_state(row))


def _state(row: RequirementRow) -> str:
    statuses = {cell.status for cell in row.cells}
    if statuses & set(PROBLEMS):
        return "broken"
    return "hold" if "passed" in statuses else "known" if "xfailed" in statuses else "untested"
