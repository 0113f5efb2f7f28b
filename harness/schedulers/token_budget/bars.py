"""Compute the bars of the token-budget scheduler from its step table.

There is no padding except the unused rest of the last block. In one step, several requests can compute tokens of their
prompts while other requests decode. Preempted requests hold no blocks.
"""

from harness.schedulers.bars import Bar, Size, Stretch, shared_blocks, size_of
from harness.schedulers.token_budget.kinds import decodes_in
from harness.types import StepRow, blocks_for


class TokenBudgetBars:
    """Computes the bars of the time-line of a run, row by row. ``block_size`` is in tokens."""

    def __init__(self, sizes: tuple[Size, ...], block_size: int) -> None:
        self._sizes, self._block_size = sizes, block_size
        self._before = StepRow(-1, None, (), (), (), ())
        self._computed: dict[int, int] = {}
        self._found: dict[int, int] = {}
        self._tables: dict[int, tuple[int, ...]] = {}

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch of the time-line that has ``count`` steps and begins with the step of ``row``."""
        for sequence in row.preempted or ():
            self._forget(sequence)
        for sequence, tokens in row.hits or ():
            self._computed[sequence] = self._found[sequence] = tokens
        for sequence, tokens in row.scheduled or ():
            self._computed[sequence] = self._computed.get(sequence, 0) + tokens
        self._tables |= dict(zip(row.tabled, row.block_tables, strict=False))
        here = [i for i in dict.fromkeys((*self._before.running, *row.running, *row.tabled)) if i in self._computed]
        decoding = decodes_in(row, self._before)
        catching_up = tuple(i for i, _ in row.scheduled or () if i not in decoding)
        bars = {i: self._bar(i) for i in here}
        shared = shared_blocks({i: self._tables.get(i, ()) for i in here})
        for sequence in set(self._computed) - set(row.running):
            self._forget(sequence)
        for sequence in decoding if count > 1 else ():
            if sequence in self._computed:
                self._computed[sequence] += count - 1
        self._before = row
        return Stretch(row, row.step + count - 1, bars, None, None, shared, catching_up, decoding)

    def _bar(self, sequence: int) -> Bar:
        prompt, computed = size_of(self._sizes, sequence).prompt_length, self._computed[sequence]
        found = min(self._found.get(sequence, 0), computed)
        known = min(prompt, computed)
        rest = blocks_for(computed, self._block_size) * self._block_size - computed
        return Bar(0, max(0, known - found), computed - max(known, found), rest, 0, found)

    def _forget(self, sequence: int) -> None:
        """Remove the state of a sequence that has ended, or was aborted or preempted."""
        for known in (self._computed, self._found, self._tables):
            known.pop(sequence, None)
