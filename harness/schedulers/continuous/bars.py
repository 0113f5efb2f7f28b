"""Compute the bars of the continuous scheduler from its step table (docs/scheduling-rules.md, "Prefill" and "Decode").

A bar is computed from tkv, the number of blocks that were reserved at the prefill of the sequence, and the number of
tokens that the sequence has in the KV cache: the length of its prompt, plus one for each decode. tkv minus this number
is the left padding. The sequence does not hold whole blocks of padding.
"""

from harness.schedulers.bars import Bar, Size, Stretch, size_of
from harness.types import BLOCK_SIZE, StepRow, blocks_for


class ContinuousBars:
    """Computes the bars of the time-line of a run, row by row."""

    def __init__(self, sizes: tuple[Size, ...]) -> None:
        self._sizes = sizes
        self._cached: dict[int, int] = {}
        self._reserved: dict[int, int] = {}

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch of the time-line that has ``count`` steps and begins with the step of ``row``."""
        for sequence in row.outputs:
            size = size_of(self._sizes, sequence)
            if row.kind == "prefill":
                self._cached[sequence], self._reserved[sequence] = size.prompt_length, _reserved(row.tkv_or_0, size)
            else:
                self._cached[sequence] = self._cached.get(sequence, size.prompt_length) + 1
        here = [i for i in dict.fromkeys((*row.running, *row.outputs)) if i in self._cached]
        bars = {i: self._bar(row.tkv_or_0, i) for i in here}
        # A sequence that is not running any more and has not finished was aborted. It is not drawn.
        self._cached = {i: self._cached[i] + (count - 1) for i in here if i in row.running}
        prefilled = row.outputs[0] if row.kind == "prefill" and row.outputs else None
        return Stretch(row, row.step + count - 1, bars, prefilled)

    def _bar(self, tkv: int, sequence: int) -> Bar:
        """Return the bar of a sequence after a step that ended with ``tkv``.

        With a correct engine, ``tkv`` is at least the number of the sequence's tokens. If it is less, the bar has no
        left padding, and its tokens may not fit into its blocks.
        """
        prompt, cached = size_of(self._sizes, sequence).prompt_length, self._cached[sequence]
        left = max(0, tkv - cached)
        held = blocks_for(tkv) - left // BLOCK_SIZE
        right = max(0, held * BLOCK_SIZE - left % BLOCK_SIZE - cached)
        unused = max(0, self._reserved.get(sequence, 0) - held) * BLOCK_SIZE
        return Bar(left % BLOCK_SIZE, prompt, cached - prompt, right, unused)


def _reserved(tkv: int, size: Size) -> int:
    """Return how many blocks are reserved for a sequence that is prefilled at ``tkv``."""
    return blocks_for(tkv + size.max_tokens - 1) - max(0, tkv - size.prompt_length) // BLOCK_SIZE
