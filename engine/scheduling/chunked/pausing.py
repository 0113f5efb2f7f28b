"""Choose which sequences decode in a step and which pause, and compute the tkv (padded length) of each sequence.

Source: docs/scheduling-rules-chunked.md, "Pausing" and "Decode".
"""

from collections.abc import Iterable, Sequence

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.chunked.sequence import ChunkedSequence


def tkvs(computed: Sequence[int]) -> list[int]:
    """Return the tkv of each sequence after a decode: its left padding plus its tokens in the KV cache.

    With this scheduler each sequence has its own tkv, and the largest of them is the tkv of the batch. ``computed`` has
    the number of tokens of each sequence in the KV cache before the decode. On the device all sequences end in the same
    column of blocks, so a sequence with fewer blocks than the longest one gets whole blocks of left padding.
    """
    blocks = [blocks_for(tokens + 1) for tokens in computed]
    widest = max(blocks, default=0)
    return [(widest - own) * BLOCK_SIZE + tokens + 1 for own, tokens in zip(blocks, computed, strict=True)]


def batch_tkv(batch: Sequence[ChunkedSequence]) -> int:
    """Return the product of batch size and largest tkv after the next decode of the batch."""
    return len(batch) * max(tkvs([sequence.computed for sequence in batch]), default=0)


def in_turn(sequences: Iterable[ChunkedSequence], *, longest_first: bool) -> list[ChunkedSequence]:
    """Return the sequences in the order in which a decode selects them.

    Sequences that have been paused for more steps come first. Sequences with equal pauses are sorted by generated
    tokens: fewest first, or most first with ``longest_first``.
    """
    by_length = sorted(sequences, key=lambda sequence: sequence.generated, reverse=longest_first)
    return sorted(by_length, key=lambda sequence: sequence.paused_for, reverse=True)


def divide(candidates: Sequence[ChunkedSequence], limit: int) -> tuple[list[ChunkedSequence], list[ChunkedSequence]]:
    """Divide ``candidates`` into (sequences that decode in the next step, sequences that pause).

    Candidates are checked in order. A candidate decodes if batch size x tkv is at most ``limit`` for the batch that
    consists of this candidate and all candidates selected before it.
    """
    decoding: list[ChunkedSequence] = []
    paused: list[ChunkedSequence] = []
    for sequence in candidates:
        (decoding if batch_tkv([*decoding, sequence]) <= limit else paused).append(sequence)
    return decoding, paused
