"""Compute the bars of the chunked scheduler from its step table (docs/scheduling-rules-chunked.md).

A prompt has whole blocks of padding on its left, so that the end of its last chunk is the end of its last block. In a
decode, whole blocks of padding on the left make all block tables equally long. The step table does not show how many
blocks are allocated for a chunk, but it shows how many blocks are reserved in total. The number of allocated blocks
follows from the total, because the reservations of the other requests are known. Blocks that requests share are found
by comparing block ids, if the driver can observe them.
"""

from collections.abc import Sequence

from harness.schedulers.bars import Bar, Size, Stretch, shared_blocks, size_of
from harness.types import BLOCK_SIZE, StepRow, blocks_for, ceil_div


class ChunkedBars:
    """Computes the bars of the time-line of a run with the chunked scheduler, row by row.

    ``rows`` must be all rows of the run, because the bars of a step can need a later row: the block table of a request
    is observed only after its first token, and the bars of earlier steps need it as well.
    """

    def __init__(self, sizes: tuple[Size, ...], chunk_size: int, rows: Sequence[StepRow]) -> None:
        self._sizes = sizes
        self._chunk_size = chunk_size
        self._first_tables = _first_tables(rows)
        self._cached: dict[int, int] = {}
        self._held: dict[int, int] = {}
        self._padding: dict[int, int] = {}
        self._found: dict[int, int] = {}
        self._chunk: dict[int, int] = {}
        self._tables: dict[int, tuple[int, ...]] = {}

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch of the time-line that has ``count`` steps and begins with the step of ``row``."""
        here = list(dict.fromkeys((*row.running, *(row.paused or ()), *row.outputs)))
        prefilled = self._prefilled(row) if row.kind == "prefill" else None
        chunk = None
        if prefilled is not None:
            chunk = self._run_chunk(row, prefilled, [i for i in here if i != prefilled])
        elif row.kind == "decode":
            self._decode(row.outputs)
        if row.block_tables:
            self._tables.update(zip(row.outputs, row.block_tables, strict=False))
        here = [i for i in here if i in self._cached]
        bars = {i: self._bar(i) for i in here}
        shared = shared_blocks({i: self._tables.get(i, ())[: self._held[i]] for i in here})
        for sequence in set(self._cached) - ({*row.running, *(row.paused or ())}):
            self._forget(sequence)
        for sequence in row.outputs if row.kind == "decode" else ():
            if sequence in self._cached:
                self._cached[sequence] += count - 1
        return Stretch(row, row.step + count - 1, bars, prefilled, chunk, shared)

    def _prefilled(self, row: StepRow) -> int | None:
        """Return the request whose chunk the prefill step of ``row`` computes; None if it was aborted in this step.

        It gets a token, or it runs and a part of its prompt is not computed yet. If it was aborted, all requests that
        run have computed their prompts.
        """
        unfinished = (i for i in row.running if self._cached.get(i, 0) < size_of(self._sizes, i).prompt_length)
        return next(iter((*row.outputs, *unfinished)), None)

    def _run_chunk(self, row: StepRow, sequence: int, others: Sequence[int]) -> tuple[int, int]:
        """Update the state of ``sequence`` for the chunk of its prompt that the step of ``row`` computes.

        ``others`` are the other sequences that run or are paused. Return (number of the chunk, starting at 1, number of
        chunks of the prompt).
        """
        prompt, size = size_of(self._sizes, sequence).prompt_length, self._chunk_size
        chunks = max(1, ceil_div(prompt, size))
        padding = max(0, chunks * size - blocks_for(prompt) * BLOCK_SIZE)
        if sequence not in self._chunk:
            self._found[sequence] = dict(row.hits or ()).get(sequence, 0) * BLOCK_SIZE
            self._chunk[sequence] = (padding + self._found[sequence]) // size
            self._tables[sequence] = self._first_tables.get(sequence, ())
        else:
            self._chunk[sequence] += 1
        number = min(self._chunk[sequence], chunks - 1)
        done = prompt if row.outputs else min(prompt, (number + 1) * size - padding)
        self._cached[sequence], self._padding[sequence] = max(0, done), padding
        reserved_by_others = sum(self._worst_case(other) - self._held[other] for other in others if other in self._held)
        left = (
            blocks_for(done)
            if row.reserved is None
            else self._worst_case(sequence) - (row.reserved - reserved_by_others)
        )
        whole = blocks_for(prompt)
        self._held[sequence] = whole if row.outputs else min(whole, max(blocks_for(done), left))
        return number + 1, chunks

    def _decode(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            prompt = size_of(self._sizes, sequence).prompt_length
            self._cached[sequence] = self._cached.get(sequence, prompt) + 1
            self._held[sequence] = blocks_for(self._cached[sequence])
        largest = max((self._held[i] for i in sequences), default=0)
        for sequence in sequences:
            self._padding[sequence] = (largest - self._held[sequence]) * BLOCK_SIZE

    def _bar(self, sequence: int) -> Bar:
        prompt, cached = size_of(self._sizes, sequence).prompt_length, self._cached[sequence]
        held, found = self._held[sequence], min(self._found.get(sequence, 0), cached)
        return Bar(
            self._padding[sequence],
            min(prompt, cached) - found,
            max(0, cached - prompt),
            max(0, held * BLOCK_SIZE - cached),
            max(0, self._worst_case(sequence) - held) * BLOCK_SIZE,
            found,
        )

    def _worst_case(self, sequence: int) -> int:
        """Return how many blocks the sequence needs if it generates ``max_tokens`` tokens."""
        size = size_of(self._sizes, sequence)
        return blocks_for(size.prompt_length + size.max_tokens)

    def _forget(self, sequence: int) -> None:
        """Remove the state of a sequence that has ended or was aborted."""
        for known in (self._cached, self._held, self._padding, self._found, self._chunk, self._tables):
            known.pop(sequence, None)


def _first_tables(rows: Sequence[StepRow]) -> dict[int, tuple[int, ...]]:
    """Return the first observed block table of each request, which is observed when the request gets its first token.

    The chunks before that used the blocks at the beginning of this block table.
    """
    tables: dict[int, tuple[int, ...]] = {}
    for row in rows:
        for sequence, table in zip(row.outputs, row.block_tables, strict=False):
            tables.setdefault(sequence, table)
    return tables
