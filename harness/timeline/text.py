"""A time-line as text: who waits, is prefilled, decodes and ends, a column a step; and the batch after each prefill."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.timeline.model import Bar, Stretch, TimeLine
from harness.workload import BLOCK_SIZE

LEGEND = (
    "· waits   P is prefilled   1-9 decodes and holds that many blocks (+: more)   × ends   … plain decodes left out",
    "░ left padding   ▓ prompt   █ generated   ▒ right padding   - reserved, not used   (a character is 8 tokens)",
)
HEIGHTS = "▁▂▃▄▅▆▇█"
LETTERS = {"start": "s", "prefill": "P", "decode": "d", "idle": "i"}
TOKENS_OF_A_CHARACTER = 8
FEWEST_COLUMNS = 20


@dataclass(frozen=True)
class _Column:
    """One step as a column, or (``skipped``) the steps of a run of decodes that there is no room for."""

    step: int
    stretch: Stretch
    skipped: bool = False


def as_text(line: TimeLine, width: int = 100) -> list[str]:
    """Lines at most ``width`` characters wide; runs of plain decodes are shortened as far as that needs.

    ``LEGEND`` says what the characters mean. A run that does not fit even so goes on below, in another band of the same
    rows.
    """
    labels = _labels(line)
    room = max(FEWEST_COLUMNS, width - max(map(len, labels)) - 1)
    columns = _fitted(line.stretches, room)
    bands = [columns[at : at + room] for at in range(0, len(columns), room)]
    lines = []
    for band in bands:
        rows = [_ruler(band), _kinds(band), _height([_tkv(c) for c in band], line.highest_tkv)]
        rows += [_lane(sequence, band) for sequence in range(len(line.sizes))]
        lines += [
            f"{label.rjust(max(map(len, labels)))} {row}".rstrip() for label, row in zip(labels, rows, strict=True)
        ]
        lines.append("")
    return [*lines, *_batches(line.stretches)]


def _labels(line: TimeLine) -> list[str]:
    names = [f"{i}: {size.prompt_length}+{size.max_tokens}" for i, size in enumerate(line.sizes)]
    return ["step", "", f"tkv ≤ {line.highest_tkv}", *names]


def _fitted(stretches: Sequence[Stretch], room: int) -> list[_Column]:
    """The most columns that fit: every run of plain decodes is cut to the same number."""
    longest = max(stretch.steps for stretch in stretches)
    cut = next((n for n in range(longest, 1, -1) if sum(min(s.steps, n) for s in stretches) <= room), 2)
    return [column for stretch in stretches for column in _columns(stretch, cut)]


def _columns(stretch: Stretch, cut: int) -> Iterator[_Column]:
    """The first and the last steps of a stretch, with one column in the middle for those that are left out."""
    if stretch.steps <= cut:
        yield from (_Column(step, stretch) for step in range(stretch.first, stretch.last + 1))
        return
    before = cut // 2
    yield from (_Column(stretch.first + i, stretch) for i in range(before))
    yield _Column(stretch.first + before, stretch, skipped=True)
    after = cut - before - 1
    yield from (_Column(stretch.last - i, stretch) for i in reversed(range(after)))


def _ruler(columns: Sequence[_Column]) -> str:
    """Step numbers above the columns where something happens, as many as there is room for."""
    text = ""
    for at, column in enumerate(columns):
        new = column.step == column.stretch.first and not column.skipped
        number = str(column.step)
        if new and at >= len(text) + (1 if text else 0) and at + len(number) <= len(columns):
            text = text.ljust(at) + number
    return text


def _kinds(columns: Sequence[_Column]) -> str:
    return "".join("…" if column.skipped else LETTERS.get(column.stretch.row.kind, "?") for column in columns)


def _tkv(column: _Column) -> int:
    return column.stretch.tkv_at(column.step)


def _height(values: Sequence[int], highest: int) -> str:
    """Values from 0 to ``highest`` as bars of eight heights; 0 is empty."""
    return "".join(" " if not v else HEIGHTS[max(0, v * len(HEIGHTS) // max(1, highest) - 1)] for v in values)


def _lane(sequence: int, columns: Sequence[_Column]) -> str:
    return "".join(_mark(sequence, column) for column in columns)


def _mark(sequence: int, column: _Column) -> str:
    stretch = column.stretch
    if column.skipped:
        return "…" if sequence in stretch.bars else "·" if sequence in stretch.row.waiting else " "
    if sequence in stretch.row.finished:
        return "×"
    if stretch.row.kind == "prefill" and sequence in stretch.row.outputs:
        return "P"
    if sequence in stretch.bars:
        blocks = stretch.bars[sequence].held // BLOCK_SIZE
        return str(blocks) if blocks < 10 else "+"
    return "·" if sequence in stretch.row.waiting else " "


def _batches(stretches: Sequence[Stretch]) -> Iterator[str]:
    """The batch as it lies in the cache after each prefill that found others there, and where it holds most."""
    shown = [s for s in stretches if s.row.kind == "prefill" and len(s.bars) > 1]
    if not shown:
        shown = [s for s in stretches if s.row.kind == "prefill"][:1]
    for stretch in shown:
        prefilled = ", ".join(map(str, stretch.row.outputs))
        yield f"after step {stretch.first}, the prefill of {prefilled}: tkv {stretch.row.tkv}"
        longest = max(bar.held for bar in stretch.bars.values())
        for sequence, bar in stretch.bars.items():
            # All of them end at the same column of the batch; what is not held is left of the first block.
            indent = " " * ((longest - bar.held) // BLOCK_SIZE * (BLOCK_SIZE // TOKENS_OF_A_CHARACTER + 1))
            yield f"{sequence:>4} {indent}|{_blocks(bar)}"
        yield ""


def _blocks(bar: Bar) -> str:
    """The blocks of one sequence, each eight characters wide; of the tokens of a character the rarest is shown."""
    counts = zip("░▓█▒-", bar, strict=True)
    tokens = "".join(sign * count for sign, count in counts)
    groups = [tokens[at : at + TOKENS_OF_A_CHARACTER] for at in range(0, len(tokens), TOKENS_OF_A_CHARACTER)]
    characters = "".join(next(sign for sign in "█▓░▒-" if sign in group) for group in groups)
    size = BLOCK_SIZE // TOKENS_OF_A_CHARACTER
    return "".join(f"{characters[at : at + size]}|" for at in range(0, len(characters), size))
