"""Prepare the suites of a run for the HTML page, each with a matrix of its cases and configurations."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.outcomes import SYMBOLS, count
from harness.report.result_view import ResultView


@dataclass(frozen=True)
class MatrixRow:
    """A row of a suite's matrix: a case with its results. ``cells`` has the results in each configuration.

    A cell has more than one result only if several tests have the same name.
    """

    case: str
    cells: tuple[tuple[ResultView, ...], ...]


@dataclass(frozen=True)
class SuiteView:
    """A suite file of a run. Its matrix has a row for each case and a column for each configuration."""

    anchor: str
    name: str
    file: str
    kind: str
    counts: str
    configurations: tuple[str, ...]
    rows: tuple[MatrixRow, ...]

    @property
    def results(self) -> list[ResultView]:
        return [result for row in self.rows for cell in row.cells for result in cell]

    @property
    def has_matrix(self) -> bool:
        """Return whether the tests have configurations. Tests that are not from a suite file have none."""
        return any(self.configurations)


def suite_views(views: Sequence[ResultView]) -> list[SuiteView]:
    """Return the suites of these tests, in the order of their first tests."""
    by_file: dict[str, list[ResultView]] = {}
    for view in views:
        by_file.setdefault(view.file, []).append(view)
    return [_suite(i, file, members) for i, (file, members) in enumerate(by_file.items())]


def _suite(index: int, file: str, members: Sequence[ResultView]) -> SuiteView:
    configurations = tuple(dict.fromkeys(member.configuration for member in members))
    by_cell: dict[tuple[str, str], list[ResultView]] = {}
    for member in members:
        by_cell.setdefault((member.case, member.configuration), []).append(member)
    rows = tuple(
        MatrixRow(case, tuple(tuple(by_cell.get((case, configuration), ())) for configuration in configurations))
        for case in dict.fromkeys(member.case for member in members)
    )
    counts = ", ".join(f"{count(members, status)} {status}" for status in SYMBOLS if count(members, status))
    name, kind = members[0].suite, next((m.kind for m in members if m.kind), "")
    return SuiteView(f"s{index}", name, file, kind, counts, configurations, rows)
