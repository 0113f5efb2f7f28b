"""Find the steps in which two time-lines differ."""

from collections.abc import Iterator
from itertools import zip_longest

from harness.runs.plain_decodes import as_row
from harness.schedulers.bars import Stretch
from harness.timeline.model import TimeLine


def steps_apart(line: TimeLine, expected: TimeLine) -> Iterator[tuple[int, int]]:
    """Yield (first step, last step) of each range of steps in which two time-lines differ. Both steps are included."""
    first = None
    step = 0
    for step, (seen, wanted) in enumerate(zip_longest(_steps(line), _steps(expected)), line.stretches[0].first):
        if seen != wanted and first is None:
            first = step
        if seen == wanted and first is not None:
            yield first, step - 1
            first = None
    if first is not None:
        yield first, step


def _steps(line: TimeLine) -> Iterator[object]:
    for stretch in line.stretches:
        for step in range(stretch.first, stretch.last + 1):
            yield _seen(stretch, step)


def _seen(stretch: Stretch, step: int) -> object:
    row = as_row(stretch.row)
    return row._replace(step=step, tkv=stretch.tkv_at(step), running=()), stretch.prefilled
