"""Merge the step tables of one case in two runs into one.

A cell that differs shows the value of the second run, then ``≠``, then the value of the first run.
"""

from collections.abc import Sequence
from typing import Any

from harness.compare.changes import Change
from harness.compare.results import steps_of
from harness.report.step_view import Line, StepTable, full_rows, step_table
from harness.runs.plain_decodes import as_data as row_as_data
from harness.runs.plain_decodes import columns_of
from harness.types import StepRow


def tables_side_by_side(change: Change) -> StepTable | None:
    """Return the step tables of a test in two runs, merged into one table.

    Return None if the two tables are equal, or if one of the runs has no table.
    """
    before, after = steps_of(change.before), steps_of(change.after)
    if before is None or after is None:
        return None
    wanted, seen = full_rows(before), full_rows(after)
    differing = {str(row.step): names for row in seen if (names := _differences(row, wanted))}
    if not differing and len(wanted) == len(seen):
        return None
    data = {"steps": after, "expected": [row_as_data(row) for row in wanted], "differing": differing}
    return step_table(data)


def _differences(row: StepRow, others: Sequence[StepRow]) -> list[str]:
    if row.step >= len(others):
        return []
    other = others[row.step]
    return [name for name in columns_of([row, other])[1:] if getattr(row, name) != getattr(other, name)]


def as_cells(line: Line, columns: Sequence[str]) -> list[str]:
    """Return the texts of a line: the step number, the kind of the step (such as prefill), and a text for each column.

    For a line that stands for several omitted steps, return a list with a single text.
    """
    if line.folded:
        return [line.folded]
    texts = [cell.seen if cell.expected is None else f"{cell.seen or '·'}≠{cell.expected}" for cell in line.cells]
    return [str(line.step), line.kind, *texts][: len(columns) + 2]


def as_data(table: StepTable) -> dict[str, Any]:
    """Convert a table to a dict of JSON types."""
    return {
        "columns": ["step", "kind", *table.columns],
        "lines": [as_cells(line, table.columns) for line in table.lines],
        "first": table.first,
    }
