"""Convert a step table to a time-line. A stretch of the time-line stands for consecutive similar steps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from harness.runs.plain_decodes import plain_decode
from harness.schedulers import scheduler_of_row
from harness.schedulers.bars import Size, Stretch, block_size_of
from harness.timeline.model import TimeLine
from harness.types import StepRow


def time_line(
    steps: Iterable[StepRow], sizes: Sequence[Size], options: Mapping[str, Any] = MappingProxyType({})
) -> TimeLine:
    """Convert the rows of a step table to a time-line.

    The table may omit plain decodes: decode steps in which no request joins, ends or takes a block. ``sizes`` has the
    size of each request. ``options`` are the options of the scheduler, by name. The scheduler is recognised by the
    columns of the rows. Rows that break the rules of the scheduler are drawn as well as possible, because time-lines
    are most useful for wrong runs. Raises ValueError if there are no rows.
    """
    rows, all_sizes = list(steps), tuple(sizes)
    if not rows:
        raise ValueError("a time-line needs at least one row")
    scheduler = scheduler_of_row(rows[0])
    bars = scheduler.bars(all_sizes, options, rows)
    stretches = list(_merged(bars.after(row, count) for row, count in _without_gaps(rows)))
    return TimeLine(all_sizes, tuple(stretches), scheduler.drawing, block_size_of(options))


def _merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    last: Stretch | None = None
    for stretch in stretches:
        if last is not None and _goes_on(last, stretch):
            last = replace(last, last=stretch.last)
            continue
        if last is not None:
            yield last
        last = stretch
    if last is not None:
        yield last


def _without_gaps(steps: Iterable[StepRow]) -> Iterator[tuple[StepRow, int]]:
    """Yield (row, number of consecutive steps for which it stands).

    The number is 1 for a row of the table. If the table omits decodes, one row is inserted that stands for all of them.
    """
    before: StepRow | None = None
    for row in steps:
        if before is not None and row.step > before.step + 1:
            same_batch = before.block_tables if before.tabled == before.running else ()
            yield plain_decode(before)._replace(kind="decode", block_tables=same_batch), row.step - before.step - 1
        yield row, 1
        before = row


def _goes_on(before: Stretch, after: Stretch) -> bool:
    """Return whether two consecutive stretches can be drawn as one.

    Both must be decodes of the same requests in which no request ends, and ``after`` must begin with the values of tkv
    and of the bars with which ``before`` would continue.
    """
    one, other = before.row, after.row
    return (
        one.kind == other.kind == "decode"
        and not one.finished
        and not other.finished
        and _held(one) == _held(other)
        and after.tkv_at(after.first) == before.tkv_at(after.first)
        and after.bars == before.bars_at(after.first)
        and after.shared == before.shared
    )


def _held(row: StepRow) -> StepRow:
    """Return a row with empty step, tkv, running and block tables, so that ``_goes_on`` compares only other values."""
    return row._replace(step=0, tkv=None, running=(), block_tables=())
