"""The size of a block, and lengths in whole blocks."""

BLOCK_SIZE = 64
"""Tokens in one page of the KV cache, fixed by the device."""


def blocks_for(tokens: int) -> int:
    """The blocks that hold ``tokens`` tokens: the quotient rounded up."""
    return -(-tokens // BLOCK_SIZE)


def round_up_to_block(tokens: int) -> int:
    """``tokens`` rounded up to a whole number of blocks."""
    return blocks_for(tokens) * BLOCK_SIZE
