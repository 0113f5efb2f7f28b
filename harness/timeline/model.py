"""From a step table to what is drawn: how many tokens of what each sequence holds after each step.

Of a sequence that holds blocks, three numbers say all: its tokens in the cache (its prompt, and one more with each
decode after its prefill), tkv, and what was reserved at its prefill. Padding is what is left of tkv; whole blocks of
padding are held by nobody (docs/scheduling-rules.md, "Prefill" and "Decode").
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.workload import BLOCK_SIZE, Step


class Size(NamedTuple):
    """A request: its prompt and its budget in tokens, and the step at which it joins the queue."""

    prompt_length: int
    max_tokens: int
    join_step: int = 0


class Bar(NamedTuple):
    """What one sequence holds, in tokens from left to right: they fill its blocks, and those it has reserved."""

    left_padding: int
    prompt: int
    generated: int
    right_padding: int
    unused: int

    @property
    def held(self) -> int:
        """Tokens of the blocks it holds."""
        return self.left_padding + self.prompt + self.generated + self.right_padding


@dataclass(frozen=True)
class Stretch:
    """``row`` and the steps after it, to ``last``, that differ from it in nothing but tkv and generated tokens.

    Both grow by 1 a step. ``bars`` are by sequence, after the first of the steps; a sequence that ended in it is among
    them.
    """

    row: Step
    last: int
    bars: Mapping[int, Bar]

    @property
    def first(self) -> int:
        return self.row.step

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    def tkv_at(self, step: int) -> int:
        """tkv after a step of this stretch."""
        return self.row.tkv + step - self.first

    def bars_at(self, step: int) -> dict[int, Bar]:
        """The bars after a step of this stretch."""
        more = step - self.first
        return {sequence: _grown(bar, more) for sequence, bar in self.bars.items()}


@dataclass(frozen=True)
class TimeLine:
    """All of a run: ``sizes`` by sequence, ``stretches`` in order and without gaps."""

    sizes: tuple[Size, ...]
    stretches: tuple[Stretch, ...]

    @property
    def last_step(self) -> int:
        return self.stretches[-1].last

    @property
    def highest_tkv(self) -> int:
        return max(stretch.tkv_at(stretch.last) for stretch in self.stretches)

    @property
    def widest(self) -> int:
        """The most tokens that any sequence holds or has reserved."""
        bars = [bar for stretch in self.stretches for bar in stretch.bars.values()]
        return max((bar.held + bar.unused for bar in bars), default=BLOCK_SIZE)

    def at(self, step: int) -> Stretch | None:
        """The stretch that a step belongs to."""
        return next((stretch for stretch in self.stretches if stretch.first <= step <= stretch.last), None)


def time_line(steps: Iterable[Step], sizes: Sequence[Size]) -> TimeLine:
    """Rows of a step table, all of them or without those that are plain decodes, as a time-line.

    Rows that no engine should show are drawn as far as they go: a picture of a wrong run is what it is for. Raises
    ValueError for no rows at all.
    """
    stretches = list(_stretches(steps, sizes))
    if not stretches:
        raise ValueError("a time-line needs at least one row")
    return TimeLine(tuple(sizes), tuple(stretches))


def _stretches(steps: Iterable[Step], sizes: Sequence[Size]) -> Iterator[Stretch]:
    cached: dict[int, int] = {}
    reserved: dict[int, int] = {}
    last: Stretch | None = None
    for row, count in _without_gaps(steps):
        for sequence in row.outputs:
            size = _size(sizes, sequence)
            if row.kind == "prefill":
                cached[sequence], reserved[sequence] = size.prompt_length, _reserved(row.tkv, size)
            else:
                cached[sequence] = cached.get(sequence, size.prompt_length) + 1
        here = [i for i in dict.fromkeys((*row.running, *row.outputs)) if i in cached]
        bars = {i: _bar(row.tkv, _size(sizes, i).prompt_length, cached[i], reserved.get(i, 0)) for i in here}
        # What else went is aborted, and gone from the picture.
        cached = {i: cached[i] + (count - 1) for i in here if i in row.running}
        stretch = Stretch(row, row.step + count - 1, bars)
        if last is not None and _goes_on(last, stretch):
            last = replace(last, last=stretch.last)
            continue
        if last is not None:
            yield last
        last = stretch
    if last is not None:
        yield last


def _without_gaps(steps: Iterable[Step]) -> Iterator[tuple[Step, int]]:
    """Each row with the number of steps it stands for: between two that are given lie plain decodes."""
    before: Step | None = None
    for row in steps:
        if before is not None and row.step > before.step + 1:
            first = before._replace(
                step=before.step + 1, kind="decode", tkv=before.tkv + 1, outputs=before.running, finished=()
            )
            yield first, row.step - before.step - 1
        yield row, 1
        before = row


def _goes_on(before: Stretch, after: Stretch) -> bool:
    """Whether ``after`` is more of ``before``."""
    one, other = before.row, after.row
    return (
        one.kind == other.kind == "decode"
        and not one.finished
        and not other.finished
        and (other.outputs, other.waiting, other.reserved, other.used)
        == (one.outputs, one.waiting, one.reserved, one.used)
        and other.tkv == before.tkv_at(after.first)
        and after.bars == before.bars_at(after.first)
    )


def _size(sizes: Sequence[Size], sequence: int) -> Size:
    return sizes[sequence] if 0 <= sequence < len(sizes) else Size(0, 0)


def _bar(tkv: int, prompt: int, cached: int, reserved: int) -> Bar:
    """``reserved`` in blocks. What a wrong tkv cannot hold is drawn as far as it goes."""
    left = max(0, tkv - cached)
    held = _blocks(tkv) - left // BLOCK_SIZE
    right = max(0, held * BLOCK_SIZE - left % BLOCK_SIZE - cached)
    return Bar(left % BLOCK_SIZE, prompt, cached - prompt, right, max(0, reserved - held) * BLOCK_SIZE)


def _grown(bar: Bar, tokens: int) -> Bar:
    return bar._replace(generated=bar.generated + tokens, right_padding=max(0, bar.right_padding - tokens))


def _reserved(tkv: int, size: Size) -> int:
    return _blocks(tkv + size.max_tokens - 1) - max(0, tkv - size.prompt_length) // BLOCK_SIZE


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_SIZE)
