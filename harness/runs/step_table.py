"""Short form of step tables, in which rows that are plain decodes are omitted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.suites.schema import format_of_row
from harness.types import StepRow


def plain_decode(row: StepRow, steps: int = 1) -> StepRow:
    """Return the row ``steps`` plain decodes after ``row``."""
    return format_of_row(row).plain_decode(row, steps)


def lengthen(rows: Sequence[StepRow]) -> list[StepRow]:
    """Return every row from the first to the last given row, with omitted plain decodes filled in."""
    full: list[StepRow] = []
    for row in rows:
        while full and full[-1].step + 1 < row.step:
            full.append(plain_decode(full[-1]))
        full.append(row)
    return full


def shorten(rows: Iterable[StepRow]) -> list[StepRow]:
    """Return the rows that are not plain decodes, and the last row, which marks the end of the table.

    The input may itself be in the short form.
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
    """Return whether only plain decodes lead from ``row`` to ``later``. A step that schedules no request is not one."""
    return later.scheduled != () and plain_decode(row, later.step - row.step) == later


def as_row(step: StepRow) -> StepRow:
    """Return an observed step as a row of an expected table. Columns that the engine does not report are 0 or empty."""
    columns = format_of_row(step).columns
    return step._replace(
        tkv=step.tkv_or_0 if "tkv" in columns else None,
        reserved=step.reserved or 0 if "reserved" in columns else None,
        used=step.used or 0,
        hits=step.hits or () if "hits" in columns else None,
        kind="",
        block_tables=(),
    )


def columns_of(rows: Iterable[StepRow]) -> tuple[str, ...]:
    """Return the columns that all rows have."""
    formats = {known.name: known for known in map(format_of_row, rows)}
    first, *others = formats.values()
    return tuple(column for column in first.columns if all(column in other.columns for other in others))


def cells_of(row: StepRow, columns: Iterable[str]) -> list[Any]:
    """Return the row's values in these columns."""
    return [getattr(row, column) for column in columns]


def as_expected(data: Mapping[str, Any]) -> bool:
    """Return whether a verdict's ``steps`` equal its ``expected`` rows in every cell (see ``checks/steps.py``)."""
    return "expected" in data and data.get("differing") == {} and "first" not in data


def as_data(row: StepRow) -> dict[str, Any]:
    """Return a row as builtins by column names, in the form of results. Columns that are None are left out."""
    data = {name: _listed(getattr(row, name)) for name in format_of_row(row).columns}
    return data | {"kind": row.kind} if row.kind else data


def from_data(data: Mapping[str, Any]) -> StepRow:
    """Return the row from the output of ``as_data``. Raises TypeError and ValueError for other values."""
    return StepRow(**{"tkv": None} | {name: _tupled(value) for name, value in data.items()})


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value
