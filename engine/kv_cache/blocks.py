"""The block size of Spyre, and conversions between tokens and blocks."""

BLOCK_SIZE = 64
"""The number of tokens in a block of the KV cache, fixed by the device."""


def blocks_for(tokens: int) -> int:
    """Return the number of blocks that ``tokens`` tokens need."""
    return -(-tokens // BLOCK_SIZE)


def round_up_to_block(tokens: int) -> int:
    """Return ``tokens`` rounded up to a multiple of the block size."""
    return blocks_for(tokens) * BLOCK_SIZE
