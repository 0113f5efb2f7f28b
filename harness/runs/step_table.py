"""Step tables in their short form, and back: rows that are plain decodes may be left out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.suites.schema import format_of_row
from harness.types import StepRow


def plain_decode(row: StepRow, steps: int = 1) -> StepRow:
    """The row ``steps`` later where each step between is a plain decode: one more token each, nothing else."""
    return format_of_row(row).plain_decode(row, steps)


def lengthen(rows: Sequence[StepRow]) -> list[StepRow]:
    """Every row from the first given to the last given one."""
    full: list[StepRow] = []
    for row in rows:
        while full and full[-1].step + 1 < row.step:
            full.append(plain_decode(full[-1]))
        full.append(row)
    return full


def shorten(rows: Iterable[StepRow]) -> list[StepRow]:
    """Only the rows that are not plain decodes; the last one always stays, it says where the table ends.

    Takes rows in the short form, too, and gives the shortest.
    """
    kept: list[StepRow] = []
    row = None
    for row in rows:
        if not (kept and _goes_on(kept[-1], row)):
            kept.append(row)
    if row is not None and kept[-1] is not row:
        kept.append(row)
    return kept


def _goes_on(row: StepRow, later: StepRow) -> bool:
    """Whether nothing but plain decodes leads from one row to a later one; a step that schedules none is none."""
    return later.scheduled != () and plain_decode(row, later.step - row.step) == later


def as_row(step: StepRow) -> StepRow:
    """An observed step as a row of an expected table: columns that the engine does not have count as 0 or empty."""
    columns = format_of_row(step).columns
    return step._replace(
        reserved=step.reserved or 0 if "reserved" in columns else None,
        used=step.used or 0,
        hits=step.hits or () if "hits" in columns else None,
        kind="",
        block_tables=(),
    )


def columns_of(rows: Iterable[StepRow]) -> tuple[str, ...]:
    """The columns that all of these rows have."""
    formats = {known.name: known for known in map(format_of_row, rows)}
    first, *others = formats.values()
    return tuple(column for column in first.columns if all(column in other.columns for other in others))


def cells_of(row: StepRow, columns: Iterable[str]) -> list[Any]:
    """The row's values in these columns."""
    return [getattr(row, column) for column in columns]


def as_expected(data: Mapping[str, Any]) -> bool:
    """Whether a verdict's ``steps`` are its ``expected`` rows, to the last cell (see ``checks/steps.py``)."""
    return "expected" in data and data.get("differing") == {} and "first" not in data


def as_data(row: StepRow) -> dict[str, Any]:
    """A row as builtins by the names of its columns, as results have it; columns it does not have are left out."""
    data = {name: _listed(getattr(row, name)) for name in format_of_row(row).columns}
    return data | {"kind": row.kind} if row.kind else data


def from_data(data: Mapping[str, Any]) -> StepRow:
    """A row from what ``as_data`` made of it. Raises TypeError and ValueError for anything else."""
    return StepRow(**{"tkv": 0} | {name: _tupled(value) for name, value in data.items()})


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value
