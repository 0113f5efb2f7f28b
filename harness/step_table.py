"""Step tables in their short form, and back: rows that are plain decodes may be left out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.schema import AnyRow, ChunkedRow, StepRow
from harness.types import Step

COLUMNS = StepRow._fields


OWN_COLUMNS = len(["step", "tkv", "waiting", "running", "outputs", "finished"])
"""From here on a row has columns that a plain decode leaves alone."""


def plain_decode(row: AnyRow) -> AnyRow:
    """The row after ``row`` where the step is a plain decode: one more token for everybody, nothing else."""
    return row._replace(step=row.step + 1, tkv=row.tkv + 1, outputs=row.running, finished=())


def lengthen(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Every row from the first given to the last given one."""
    full: list[AnyRow] = []
    for row in rows:
        while full and full[-1].step + 1 < row.step:
            full.append(plain_decode(full[-1]))
        full.append(row)
    return full


def shorten(rows: Iterable[AnyRow]) -> list[AnyRow]:
    """Only the rows that are not plain decodes; the last one always stays, it says where the table ends.

    Takes rows in the short form, too, and gives the shortest.
    """
    kept: list[AnyRow] = []
    row = None
    for row in rows:
        if not (kept and _goes_on(kept[-1], row)):
            kept.append(row)
    if row is not None and kept[-1] is not row:
        kept.append(row)
    return kept


def _goes_on(row: AnyRow, later: AnyRow) -> bool:
    """Whether nothing but plain decodes leads from one row to a later one."""
    return (
        later.tkv - row.tkv == later.step - row.step
        and later.outputs == row.running == later.running
        and later.waiting == row.waiting
        and not later.finished
        and later[OWN_COLUMNS:] == row[OWN_COLUMNS:]
    )


def as_row(step: Step) -> AnyRow:
    """An observed step as a row of its generation; columns the engine does not have count as 0."""
    row = StepRow(
        step.step,
        step.tkv,
        step.waiting,
        step.running,
        step.outputs,
        step.finished,
        step.reserved or 0,
        step.used or 0,
    )
    return row if step.paused is None else ChunkedRow(*row, step.paused, step.hits or ())


def columns_of(rows: Sequence[AnyRow]) -> tuple[str, ...]:
    """The columns that all of these rows have."""
    return COLUMNS if any(isinstance(row, StepRow) for row in rows) else ChunkedRow._fields


def as_expected(data: Mapping[str, Any]) -> bool:
    """Whether a verdict's ``steps`` are its ``expected`` rows, to the last cell (see ``checks/steps.py``)."""
    return "expected" in data and data.get("differing") == {} and "first" not in data


def as_builtins(step: Step | AnyRow) -> list[Any]:
    """A step in the order of its columns, as JSON has it; None in columns the engine does not have."""
    sets = (step.waiting, step.running, step.outputs, step.finished)
    common = [step.step, step.tkv, *map(list, sets), step.reserved, step.used]
    if isinstance(step, StepRow) or step.paused is None:
        return common
    return [*common, list(step.paused), [list(hit) for hit in step.hits or ()]]
