"""Step tables in their short form, and back: rows that are plain decodes may be left out."""

from collections.abc import Sequence
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


def shorten(rows: Sequence[StepRow]) -> list[StepRow]:
    """Only the rows that are not plain decodes; the last one always stays, it says where the table ends."""
    kept = [
        row for earlier, row in zip([None, *rows], rows, strict=False) if not earlier or row != plain_decode(earlier)
    ]
    if rows and kept[-1] != rows[-1]:
        kept.append(rows[-1])
    return kept


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


def as_builtins(step: Step) -> list[Any]:
    """An observed step in the order of COLUMNS, as JSON has it; None in columns the engine does not have."""
    sets = (step.waiting, step.running, step.outputs, step.finished)
    return [step.step, step.tkv, *map(list, sets), step.reserved, step.used]
