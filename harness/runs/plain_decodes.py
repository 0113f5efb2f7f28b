"""Remove plain decodes from step tables, insert them again, and convert rows of step tables to JSON types.

A plain decode is a decode step in which no request joins, ends or takes a block (see ``StepRow``). Its row follows from
the row before, so step tables may omit it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.suites.schema import format_of_row
from harness.types import StepRow


def plain_decode(row: StepRow, steps: int = 1) -> StepRow:
    """Return the row after ``steps`` plain decodes that follow ``row``.

    In a plain decode, the same requests run as before, each gets one token, and none joins, ends or takes a block.
    """
    return format_of_row(row).plain_decode(row, steps)


def lengthen(rows: Sequence[StepRow]) -> list[StepRow]:
    """Return the step table ``rows`` with a row for every step, by inserting the rows of omitted plain decodes.

    A plain decode is a decode step in which no request joins, ends or takes a block.
    """
    full: list[StepRow] = []
    for row in rows:
        while full and full[-1].step + 1 < row.step:
            full.append(plain_decode(full[-1]))
        full.append(row)
    return full


def shorten(rows: Iterable[StepRow]) -> list[StepRow]:
    """Return the step table ``rows`` without plain decodes.

    A plain decode is a decode step in which no request joins, ends or takes a block. The last row is always kept, to
    show where the table ends. ``rows`` may already omit some plain decodes.
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
    """Return whether all steps after ``row`` up to ``later`` are plain decodes.

    A plain decode is a decode step in which no request joins, ends or takes a block. A step of the token-budget
    scheduler that schedules no request is not a plain decode.
    """
    return later.scheduled != () and plain_decode(row, later.step - row.step) == later


def as_row(step: StepRow) -> StepRow:
    """Convert an observed row to a row of an expected table. Values that the driver can't observe become 0 or empty."""
    columns = format_of_row(step).columns
    return step._replace(
        tkv=step.tkv_or_0 if "tkv" in columns else None,
        reserved=step.reserved or 0 if "reserved" in columns else None,
        used=step.used or 0,
        hits=step.hits or () if "hits" in columns else None,
        kind="",
        block_tables=(),
        writes=None,
    )


def columns_of(rows: Iterable[StepRow]) -> tuple[str, ...]:
    """Return the names of the columns that all rows have; () if there are no rows.

    Rows of different schedulers have different columns.
    """
    formats = {known.name: known.columns for known in map(format_of_row, rows)}
    first, *others = formats.values() or [()]
    return tuple(column for column in first if all(column in other for other in others))


def cells_of(row: StepRow, columns: Iterable[str]) -> list[Any]:
    """Return the values of a row in ``columns``, the names of columns, in the same order."""
    return [getattr(row, column) for column in columns]


def as_expected(data: Mapping[str, Any]) -> bool:
    """Return whether a run's steps were compared with an expected step table and equal it.

    ``data`` is the field ``data`` of the verdict of the comparison (``harness/checks/steps.py``).
    """
    return "expected" in data and data.get("differing") == {} and "first" not in data


def as_data(row: StepRow) -> dict[str, Any]:
    """Convert a row to the form in results files: a dict by column names, with the columns of its scheduler only."""
    data = {name: _listed(getattr(row, name)) for name in format_of_row(row).columns}
    return data | {"kind": row.kind} if row.kind else data


def from_data(data: Mapping[str, Any]) -> StepRow:
    """Convert a result of ``as_data`` back to a row. Raises TypeError or ValueError for a mapping of another form."""
    return StepRow(**{"tkv": None} | {name: _tupled(value) for name, value in data.items()})


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value
