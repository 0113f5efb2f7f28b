"""``Bar`` and ``Stretch``: the data from which time-lines of a run are drawn.

A bar shows the blocks that one sequence has in the KV cache after a step. Its length is in tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.types import BLOCK_SIZE, StepRow


class Size(NamedTuple):
    """The size of a request: the length of its prompt, its ``max_tokens``, and the step at which it joins the queue."""

    prompt_length: int
    max_tokens: int
    join_step: int = 0


class Bar(NamedTuple):
    """The bar of one sequence in a time-line: the blocks that the sequence holds or has reserved, divided into parts.

    All values are numbers of tokens. ``left_padding`` may include whole blocks of padding, which the sequence does not
    hold. ``prompt`` is the part of the prompt that was computed, and ``found`` the part that was found in the prefix
    cache and is not computed again. ``right_padding`` is the unused rest of the last block that the sequence holds.
    ``unused`` is the size of the blocks that are reserved for the sequence but that it does not hold yet.
    """

    left_padding: int
    prompt: int
    generated: int
    right_padding: int
    unused: int
    found: int = 0

    @property
    def parts(self) -> tuple[int, ...]:
        """Return the lengths of the parts of the bar, from left to right, in tokens.

        The parts are: left padding, prefix found in the prefix cache, rest of the prompt, generated tokens, right
        padding, and blocks that are reserved for the sequence but that it does not hold yet.
        """
        return self.left_padding, self.found, self.prompt, self.generated, self.right_padding, self.unused

    @property
    def indent(self) -> int:
        """Return the number of tokens in whole blocks of left padding. The sequence does not hold these blocks."""
        return self.left_padding - self.left_padding % BLOCK_SIZE

    @property
    def top(self) -> int:
        """Return the number of tokens from the start of the left padding to the end of the last block held."""
        return self.left_padding + self.found + self.prompt + self.generated + self.right_padding

    @property
    def held(self) -> int:
        """Return the number of tokens that fit into the blocks that the sequence holds."""
        return self.top - self.indent


class Shared(NamedTuple):
    """Blocks of a sequence that the sequences ``others`` hold as well.

    ``first`` and ``last`` are the positions of these blocks in the block table of the sequence, counted from 0.
    """

    first: int
    last: int
    others: tuple[int, ...]


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps of a time-line that are drawn as one shape.

    The first step is the step of ``row``, and the last is step ``last``. From each step to the next, tkv and the number
    of generated tokens of each decoding sequence grow by 1, and nothing else changes. ``bars`` has the bar of each
    sequence after the first step, including sequences that ended in it. ``prefilled`` is the sequence whose prompt is
    computed, None if no prompt is. With chunked prefill, ``chunk`` is (number of the chunk, starting at 1, number of
    chunks of the prompt). ``shared`` has, for each sequence, its blocks that other sequences hold as well.

    ``catching_up`` and ``decoding`` are only used with the token-budget scheduler. ``catching_up`` are the scheduled
    sequences that compute tokens of their prompt, or compute tokens again after a preemption. ``decoding`` are the
    other scheduled sequences.
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
        """Return the sequences that decode in the steps of this stretch."""
        return self.decoding or (self.row.outputs if self.row.kind == "decode" else ())

    @property
    def by_tokens(self) -> bool:
        """Return whether the steps are steps of the token-budget scheduler, which has no tkv."""
        return self.row.scheduled is not None

    @property
    def computed(self) -> str:
        """Return how many tokens of each request a step computes, as text.

        ``64 of 0, 1 of 2`` means 64 tokens of request 0 and 1 token of request 2. The text is empty for other
        schedulers than the token-budget scheduler.
        """
        return ", ".join(f"{tokens} of {sequence}" for sequence, tokens in self.row.scheduled or ())

    @property
    def prefills(self) -> tuple[int, ...]:
        """Return the sequences that compute tokens of their prompt, or compute tokens again after a preemption."""
        return self.catching_up if self.prefilled is None else (self.prefilled,)

    def tkv_at(self, step: int) -> int:
        """Return tkv after ``step`` or, with the token-budget scheduler, the number of tokens computed in ``step``."""
        if self.row.scheduled is not None:
            return sum(tokens for _, tokens in self.row.scheduled)
        return self.row.tkv_or_0 + step - self.first

    def bars_at(self, step: int) -> dict[int, Bar]:
        """Return the bar of each sequence after ``step``."""
        more = step - self.first
        growing = set(self.decodes)
        return {i: _grown(bar, more) if i in growing else bar for i, bar in self.bars.items()}


def block_size_of(options: Mapping[str, Any]) -> int:
    """Return the number of tokens in a block of the KV cache. ``options`` are the options of the scheduler, by name."""
    size: int = options.get("block_size", BLOCK_SIZE)
    return size


def size_of(sizes: tuple[Size, ...], sequence: int) -> Size:
    """Return the size of the request with the number ``sequence``, or Size(0, 0) if there is no such request."""
    return sizes[sequence] if 0 <= sequence < len(sizes) else Size(0, 0)


def _grown(bar: Bar, tokens: int) -> Bar:
    return bar._replace(generated=bar.generated + tokens, right_padding=max(0, bar.right_padding - tokens))


def shared_blocks(tables: Mapping[int, Sequence[int]]) -> dict[int, tuple[Shared, ...]]:
    """Return, for each sequence, its blocks that other sequences hold as well.

    ``tables`` has the block table of each sequence. The result has no entry for a sequence that shares no block.
    """
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
