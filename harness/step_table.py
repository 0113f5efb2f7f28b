"""Step tables in their short form, and back: rows that are plain decodes may be left out."""

from collections.abc import Iterable, Sequence
from typing import Any

from harness.schema import StepRow
from harness.workload import Step

COLUMNS = StepRow._fields


def plain_decode(row: StepRow) -> StepRow:
    """The row after ``row`` where the step is a plain decode: one more token for everybody, nothing else."""
    return row._replace(step=row.step + 1, tkv=row.tkv + 1, outputs=row.running, finished=())


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
    """Whether nothing but plain decodes leads from one row to a later one."""
    return (
        later.tkv - row.tkv == later.step - row.step
        and later.outputs == row.running == later.running
        and later.waiting == row.waiting
        and not later.finished
        and later[-2:] == row[-2:]
    )


def as_row(step: Step) -> StepRow:
    """An observed step as a row; columns the engine does not have count as 0."""
    return StepRow(
        step.step,
        step.tkv,
        step.waiting,
        step.running,
        step.outputs,
        step.finished,
        step.reserved or 0,
        step.used or 0,
    )


def as_builtins(step: Step | StepRow) -> list[Any]:
    """A step in the order of COLUMNS, as JSON has it; None in columns the engine does not have."""
    sets = (step.waiting, step.running, step.outputs, step.finished)
    return [step.step, step.tkv, *map(list, sets), step.reserved, step.used]
