"""Selection of the sequences that decode and those that pause, and their tkv ("Pausing", "tkv of a decode")."""

from collections.abc import Iterable, Sequence

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.chunked.sequence import ChunkedSequence


def tkvs(computed: Sequence[int]) -> list[int]:
    """Return the tkv of each sequence after a decode of a batch that has ``computed`` tokens in its caches.

    Sequences are aligned to the same block boundary on the right, so a shorter one gets whole blocks of padding.
    """
    blocks = [blocks_for(tokens + 1) for tokens in computed]
    most = max(blocks, default=0)
    return [(most - own) * BLOCK_SIZE + tokens + 1 for own, tokens in zip(blocks, computed, strict=True)]


def batch_tkv(batch: Sequence[ChunkedSequence]) -> int:
    """Return batch size x tkv after the next decode of the batch."""
    return len(batch) * max(tkvs([sequence.computed for sequence in batch]), default=0)


def in_turn(sequences: Iterable[ChunkedSequence], *, longest_first: bool) -> list[ChunkedSequence]:
    """Return sequences in the order of selection: longest paused first, then by the number of generated tokens."""
    by_length = sorted(sequences, key=lambda sequence: sequence.generated, reverse=longest_first)
    return sorted(by_length, key=lambda sequence: sequence.paused_for, reverse=True)


def divide(candidates: Sequence[ChunkedSequence], limit: int) -> tuple[list[ChunkedSequence], list[ChunkedSequence]]:
    """Return the sequences that decode in the next step and those that pause, each in the order of selection."""
    decoding: list[ChunkedSequence] = []
    paused: list[ChunkedSequence] = []
    for sequence in candidates:
        (decoding if batch_tkv([*decoding, sequence]) <= limit else paused).append(sequence)
    return decoding, paused
