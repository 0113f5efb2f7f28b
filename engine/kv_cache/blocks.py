"""The block size, and lengths in whole blocks."""

BLOCK_SIZE = 64
"""Tokens in one block of the KV cache, fixed by the device."""


def blocks_for(tokens: int) -> int:
    """Return the number of blocks for ``tokens`` tokens."""
    return -(-tokens // BLOCK_SIZE)


def round_up_to_block(tokens: int) -> int:
    """Return ``tokens`` rounded up to a multiple of the block size."""
    return blocks_for(tokens) * BLOCK_SIZE
