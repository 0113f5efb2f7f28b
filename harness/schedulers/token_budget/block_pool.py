"""The blocks of the scheduler model of the token-budget scheduler: the prefix cache, and the queue of free blocks.

This module implements only the rules "TB-HIT", "TB-REGISTER" and "TB-FREE" of docs/scheduling-rules-token-budget.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import TokenBudgetSetup

TokenIds = tuple[int, ...]


@dataclass(eq=False)
class Block:
    """A block of the KV cache. ``holders`` is the number of requests that hold it.

    ``key`` is the key of the block in the prefix cache: all tokens from the start of the sequence to the end of the
    block. It is None if the block is not in the prefix cache.
    """

    number: int
    holders: int = 0
    key: TokenIds | None = None


class BlockPool:
    """All blocks of the KV cache, with the prefix cache and the queue of free blocks.

    Blocks are numbered from 1, because no request gets block 0, which is vLLM's null block. ``size`` is the number of
    tokens in a block.
    """

    def __init__(self, count: int, options: TokenBudgetSetup) -> None:
        self.size = options.block_size
        self.caching = options.enable_prefix_caching
        self.uncached_go_last = options.rules == "0.27" and not self.caching
        self.free = [Block(number) for number in range(1, count + 1)]
        self._cached: dict[TokenIds, list[Block]] = {}

    def found(self, token_ids: TokenIds) -> list[Block]:
        """Return the blocks of the longest beginning of ``token_ids`` that is in the prefix cache.

        The last token is excluded, so that at least one token of the request is computed.
        """
        hit: list[Block] = []
        for end in range(self.size, len(token_ids), self.size):
            known = self._cached.get(token_ids[:end])
            if not known:
                break
            hit.append(known[0])
        return hit

    def share(self, blocks: Sequence[Block]) -> None:
        """Add one holder to each of these blocks. Blocks that were free leave the queue of free blocks."""
        for block in blocks:
            if block.holders == 0:
                self.free.remove(block)
            block.holders += 1

    def allocate(self, count: int) -> list[Block]:
        """Take ``count`` blocks from the front of the queue of free blocks, and remove them from the prefix cache."""
        taken, self.free = self.free[:count], self.free[count:]
        for block in taken:
            self._uncache(block)
            block.holders = 1
        return taken

    def register(self, blocks: Sequence[Block], token_ids: TokenIds) -> None:
        """Add the full blocks of a request to the prefix cache.

        ``blocks`` is the block table of the request, and ``token_ids`` are its first tokens. The blocks that these
        tokens fill completely are added. If several blocks have the same key, the one that was added first is found.
        """
        if not self.caching:
            return
        for place, block in enumerate(blocks[: len(token_ids) // self.size]):
            if block.key is None:
                block.key = token_ids[: (place + 1) * self.size]
                self._cached.setdefault(block.key, []).append(block)

    def release(self, blocks: Sequence[Block]) -> None:
        """Remove one holder from each of these blocks. Blocks without holders are freed, the last block first.

        Freed blocks that are in the prefix cache go to the end of the queue of free blocks, other freed blocks to its
        front. Without prefix caching, all freed blocks go to the front by the rules of vLLM 0.32, and to the end by
        the rules of vLLM 0.27.
        """
        for block in blocks:
            block.holders -= 1
        freed = [block for block in reversed(blocks) if block.holders == 0]
        last = [block for block in freed if block.key is not None or self.uncached_go_last]
        first = [block for block in freed if block not in last]
        self.free = [*first, *self.free, *last]

    def _uncache(self, block: Block) -> None:
        if block.key is not None:
            with_same_key = self._cached[block.key]
            with_same_key.remove(block)
            if not with_same_key:
                del self._cached[block.key]
            block.key = None
