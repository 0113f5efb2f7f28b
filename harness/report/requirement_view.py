"""Prepare the matrix that shows how many tests of each requirement passed in each configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record, count
from harness.report.result_view import ResultView
from harness.utils.text import plural


@dataclass(frozen=True)
class RequirementCell:
    """A cell of the matrix: the tests of one requirement in one configuration.

    ``status`` is the worst outcome of these tests, "" if there are none. ``text`` is a count, such as ``2 of 3``.
    ``anchor`` is the anchor of one of the tests on the page, and ``find`` the filter text that shows all of them.
    """

    status: str
    text: str
    anchor: str
    find: str


@dataclass(frozen=True)
class RequirementRow:
    """A row of the matrix: one requirement. ``must`` is the sentence of the requirement, "" if it is not known.

    ``source`` names the section of the rules with the requirement. ``remark`` says how it is tested if no case can.
    """

    name: str
    must: str
    source: str
    cells: tuple[RequirementCell, ...]
    remark: str = ""


@dataclass(frozen=True)
class RequirementMatrix:
    """The matrix of all requirements. ``sentence`` says how many hold, how many are violated, and so on."""

    sentence: str
    columns: tuple[str, ...]
    rows: tuple[RequirementRow, ...]


def requirement_matrix(about: Record, views: Sequence[ResultView]) -> RequirementMatrix:
    """Return the matrix. Violated requirements come first, and requirements that were not tested last."""
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
    """Return the sentence about the matrix, in which every requirement is counted once."""
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
