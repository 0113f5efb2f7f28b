"""Blocks (pages) of the KV cache: their size, and how many of them a number of tokens needs."""

BLOCK_SIZE = 64
"""Number of tokens in one block (page) of the KV cache. The Spyre card allows no other block size.

On other backends, the token-budget scheduler has an option for another block size (``TokenBudgetSetup.block_size``).
"""


def ceil_div(number: int, divisor: int) -> int:
    """Return ``number / divisor`` rounded up to a whole number."""
    return -(-number // divisor)


def blocks_for(tokens: int, block_size: int = BLOCK_SIZE) -> int:
    """Return the number of blocks of ``block_size`` tokens that ``tokens`` tokens need."""
    return ceil_div(tokens, block_size)
