"""Bars of time-lines: the tokens of each kind that a sequence holds after each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.types import BLOCK_SIZE, StepRow


class Size(NamedTuple):
    """A request: its prompt length and ``max_tokens``, and the step at which it joins the queue."""

    prompt_length: int
    max_tokens: int
    join_step: int = 0


class Bar(NamedTuple):
    """The memory of one sequence, in tokens. ``parts`` lists its parts from left to right, in the device's layout.

    The parts fill the blocks that the sequence holds and those reserved for it. Whole blocks of left padding are not
    held by any sequence. ``found`` counts prompt tokens that were in the prefix cache and are not computed again.
    """

    left_padding: int
    prompt: int
    generated: int
    right_padding: int
    unused: int
    found: int = 0

    @property
    def parts(self) -> tuple[int, ...]:
        """Return left padding, found, prompt, generated, right padding, and reserved but unused tokens."""
        return self.left_padding, self.found, self.prompt, self.generated, self.right_padding, self.unused

    @property
    def indent(self) -> int:
        """Return the tokens of left padding before the first held block."""
        return self.left_padding - self.left_padding % BLOCK_SIZE

    @property
    def top(self) -> int:
        """Return the tokens from the start of the left padding to the end of the last block."""
        return self.left_padding + self.found + self.prompt + self.generated + self.right_padding

    @property
    def held(self) -> int:
        """Return the tokens of the held blocks."""
        return self.top - self.indent


class Shared(NamedTuple):
    """Blocks ``first`` to ``last`` of a sequence, counted from 0, that ``others`` hold, too."""

    first: int
    last: int
    others: tuple[int, ...]


@dataclass(frozen=True)
class Stretch:
    """``row`` and the next steps up to ``last``, which differ from it only in tkv and the number of generated tokens.

    Both grow by 1 a step. ``bars`` are by sequence, after the first of the steps; they include sequences that ended in
    that step. ``prefilled`` is the sequence in prefill; ``chunk`` is (number of the chunk from 1, number of chunks) if
    prompts are chunked. ``shared`` lists the shared blocks by sequence. If steps are scheduled by tokens,
    ``catching_up`` are the requests that compute tokens they already have, and ``decoding`` the others; otherwise both
    follow from ``prefilled`` and the row.
    """

    row: StepRow
    last: int
    bars: Mapping[int, Bar]
    prefilled: int | None = None
    chunk: tuple[int, int] | None = None
    shared: Mapping[int, tuple[Shared, ...]] = field(default_factory=dict)
    catching_up: tuple[int, ...] = ()
    decoding: tuple[int, ...] = ()

    @property
    def first(self) -> int:
        return self.row.step

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    @property
    def decodes(self) -> tuple[int, ...]:
        """Return the sequences that get a token of a decode."""
        return self.decoding or (self.row.outputs if self.row.kind == "decode" else ())

    @property
    def by_tokens(self) -> bool:
        """Return whether steps are scheduled by tokens: several requests compute tokens, and there is no tkv."""
        return self.row.scheduled is not None

    @property
    def computed(self) -> str:
        """Return the number of tokens that each request computes, as text, if steps are scheduled by tokens."""
        return ", ".join(f"{tokens} of {sequence}" for sequence, tokens in self.row.scheduled or ())

    @property
    def prefills(self) -> tuple[int, ...]:
        """Return the sequences whose prompts, or lost tokens, are computed."""
        return self.catching_up if self.prefilled is None else (self.prefilled,)

    def tkv_at(self, step: int) -> int:
        """Return tkv after ``step`` or, if steps are scheduled by tokens, the number of tokens of the step."""
        if self.row.scheduled is not None:
            return sum(tokens for _, tokens in self.row.scheduled)
        return self.row.tkv_or_0 + step - self.first

    def bars_at(self, step: int) -> dict[int, Bar]:
        """Return the bars after ``step``."""
        more = step - self.first
        growing = set(self.decodes)
        return {i: _grown(bar, more) if i in growing else bar for i, bar in self.bars.items()}


def size_of(sizes: tuple[Size, ...], sequence: int) -> Size:
    """Return the size of a sequence; an empty size if no request has its number."""
    return sizes[sequence] if 0 <= sequence < len(sizes) else Size(0, 0)


def _grown(bar: Bar, tokens: int) -> Bar:
    return bar._replace(generated=bar.generated + tokens, right_padding=max(0, bar.right_padding - tokens))


def shared_blocks(tables: Mapping[int, Sequence[int]]) -> dict[int, tuple[Shared, ...]]:
    """Return the blocks of each sequence that other sequences hold, too."""
    holders: dict[int, list[int]] = {}
    for sequence, table in tables.items():
        for block in dict.fromkeys(table):
            holders.setdefault(block, []).append(sequence)
    shared: dict[int, tuple[Shared, ...]] = {}
    for sequence, table in tables.items():
        runs: list[Shared] = []
        for place, block in enumerate(table):
            others = tuple(sorted(i for i in holders[block] if i != sequence))
            if not others:
                continue
            if runs and runs[-1].last == place - 1 and runs[-1].others == others:
                runs[-1] = runs[-1]._replace(last=place)
            else:
                runs.append(Shared(place, place, others))
        if runs:
            shared[sequence] = tuple(runs)
    return shared
