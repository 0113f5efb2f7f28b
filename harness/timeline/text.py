"""Draw a time-line as text, with a row for each request and a column for each step.

Below it, the blocks in the KV cache after some of the steps are drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.schedulers.bars import Stretch
from harness.timeline.model import TimeLine
from harness.timeline.text_blocks import batches

HEIGHTS = "▁▂▃▄▅▆▇█"
LETTERS = {"start": "s", "prefill": "P", "decode": "d", "mixed": "m", "idle": "i"}
FEWEST_COLUMNS = 20


@dataclass(frozen=True)
class _Column:
    """A column of a time-line as text. It stands for one step or, if ``skipped``, for decodes that are not shown."""

    step: int
    stretch: Stretch
    skipped: bool = False


def as_text(line: TimeLine, width: int = 100) -> list[str]:
    """Return the time-line as lines of at most ``width`` characters. ``legend_of`` explains the characters.

    If there are too many steps for this width, decodes in which no request joins or ends are left out. If there are
    still too many, the time-line is divided into several groups of lines, one below the other.
    """
    labels = _labels(line)
    room = max(FEWEST_COLUMNS, width - max(map(len, labels)) - 1)
    columns = _fitted(line.stretches, room)
    bands = [columns[at : at + room] for at in range(0, len(columns), room)]
    lines = []
    for band in bands:
        rows = [_ruler(band), _kinds(band), _height([_tkv(c) for c in band], line.highest_tkv)]
        rows += [_lane(line, sequence, band) for sequence in range(len(line.sizes))]
        lines += [
            f"{label.rjust(max(map(len, labels)))} {row}".rstrip() for label, row in zip(labels, rows, strict=True)
        ]
        lines.append("")
    return [*lines, *batches(line, width)]


def legend_of(line: TimeLine) -> tuple[str, ...]:
    """Return the lines of the legend, which explain the characters of ``as_text``."""
    return line.drawing.text_legend


def _labels(line: TimeLine) -> list[str]:
    names = [f"{i}: {size.prompt_length}+{size.max_tokens}" for i, size in enumerate(line.sizes)]
    return ["step", "", f"{line.drawing.measure} ≤ {line.highest_tkv}", *names]


def _fitted(stretches: Sequence[Stretch], room: int) -> list[_Column]:
    """Return the columns of the time-line. If they do not fit into ``room`` characters, decodes are left out.

    Long stretches are all cut to the same number of columns. There can still be more than ``room`` columns.
    """
    longest = max(stretch.steps for stretch in stretches)
    cut = next((n for n in range(longest, 1, -1) if sum(min(s.steps, n) for s in stretches) <= room), 2)
    return [column for stretch in stretches for column in _columns(stretch, cut)]


def _columns(stretch: Stretch, cut: int) -> Iterator[_Column]:
    """Yield at most ``cut`` columns: the first and last steps of a stretch, and one column for the omitted steps."""
    if stretch.steps <= cut:
        yield from (_Column(step, stretch) for step in range(stretch.first, stretch.last + 1))
        return
    before = cut // 2
    yield from (_Column(stretch.first + i, stretch) for i in range(before))
    yield _Column(stretch.first + before, stretch, skipped=True)
    after = cut - before - 1
    yield from (_Column(stretch.last - i, stretch) for i in reversed(range(after)))


def _ruler(columns: Sequence[_Column]) -> str:
    """Return a line with the number of the first step of each stretch, without numbers for which there is no room."""
    text = ""
    for at, column in enumerate(columns):
        new = column.step == column.stretch.first and not column.skipped
        number = str(column.step)
        if new and at >= len(text) + (1 if text else 0) and at + len(number) <= len(columns):
            text = text.ljust(at) + number
    return text


def _kinds(columns: Sequence[_Column]) -> str:
    return "".join(_kind(column) for column in columns)


def _kind(column: _Column) -> str:
    if column.skipped:
        return "…"
    return "c" if column.stretch.chunk else LETTERS.get(column.stretch.row.kind, "?")


def _tkv(column: _Column) -> int:
    return column.stretch.tkv_at(column.step)


def _height(values: Sequence[int], highest: int) -> str:
    """Return a string with a character for each value: one of eight bars of different height, or a space for 0.

    The highest of the eight bars stands for the value ``highest``.
    """
    return "".join(" " if not v else HEIGHTS[max(0, v * len(HEIGHTS) // max(1, highest) - 1)] for v in values)


def _lane(line: TimeLine, sequence: int, columns: Sequence[_Column]) -> str:
    return "".join(_mark(line, sequence, column) for column in columns)


def _mark(line: TimeLine, sequence: int, column: _Column) -> str:
    stretch = column.stretch
    row = stretch.row
    if sequence in (row.paused or ()):
        return "="
    if column.skipped:
        return "…" if sequence in stretch.bars else "·" if sequence in row.waiting else " "
    if sequence in row.finished:
        return "×"
    if stretch.by_tokens:
        return _mark_by_tokens(line, sequence, stretch)
    if sequence == stretch.prefilled and sequence in stretch.bars:
        return "P" if stretch.chunk is None else "C" if row.outputs else "c"
    if sequence in stretch.bars:
        if stretch.chunk is not None or (line.drawing.takes_turns and sequence not in row.outputs):
            return "-"
        blocks = stretch.bars[sequence].held // line.block_size
        return str(blocks) if blocks < 10 else "+"
    return "·" if sequence in row.waiting else " "


def _mark_by_tokens(line: TimeLine, sequence: int, stretch: Stretch) -> str:
    """Return the character that shows what a step of the token-budget scheduler does with a request.

    ``!`` stands for a preemption, ``C`` and ``c`` for a chunk with and without a new token, the number of blocks held
    (``+`` above 9) for a decode, ``-`` for a running request without tokens in this step, ``·`` for a waiting request.
    """
    row = stretch.row
    if sequence in (row.preempted or ()):
        return "!"
    if sequence in stretch.prefills:
        return "C" if sequence in row.outputs else "c"
    if sequence in stretch.decodes:
        blocks = stretch.bars[sequence].held // line.block_size
        return str(blocks) if blocks < 10 else "+"
    return "-" if sequence in row.running else "·" if sequence in row.waiting else " "
