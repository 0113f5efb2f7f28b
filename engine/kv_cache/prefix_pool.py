"""Blocks of the KV cache that requests share by content. Pure bookkeeping, no tensors.

As ``block_pool``, with three differences: a block may have several holders, a freed one keeps its content until it is
handed out again, and what is reserved is what a holder may still take, not what it may hold in all.
"""

from collections.abc import Sequence

from engine.kv_cache.block_pool import OutOfBlocksError
from engine.kv_cache.shared_pool import SharedPool


class PrefixPool(SharedPool):
    """A SharedPool in which a holder is promised all that it may ever take.

    With ``enable_prefix_caching`` a freed block that has no key goes to the front of the queue, since it can't be
    found, and one with a key to the end; without it every freed block goes to the end (vLLM 0.27's ``BlockPool``).
    """

    def __init__(self, available: int, *, enable_prefix_caching: bool) -> None:
        super().__init__(available, keyless_first=enable_prefix_caching)
        self.reserved_total = 0
        self._reserved: dict[str, int] = {}

    @property
    def unreserved(self) -> int:
        """Free blocks promised to nobody."""
        return len(self._free) - self.reserved_total

    def open(self, holder: str, found: Sequence[int], blocks: int) -> None:
        """A new holder: it shares the blocks ``found``, and is promised what is missing to ``blocks``.

        Raises OutOfBlocksError where that is not there to be promised.
        """
        needed = self.worst_case(blocks, found)
        if needed > self.unreserved:
            raise OutOfBlocksError(
                f"request {holder} needs {needed} blocks to run to its end, "
                f"but {self.unreserved} of {self.available} are free and not promised to others"
            )
        self.share(holder, found)
        self._reserved[holder] = blocks - len(found)
        self.reserved_total += blocks - len(found)

    def take(self, holder: str, blocks: int) -> None:
        """Hand out ``blocks`` more blocks, within the reservation, which shrinks by them."""
        if blocks > self._reserved[holder]:
            raise OutOfBlocksError(
                f"request {holder} asks for {blocks} more blocks, but {self._reserved[holder]} are reserved for it"
            )
        super().take(holder, blocks)
        self._reserved[holder] -= blocks
        self.reserved_total -= blocks

    def free(self, holder: str) -> None:
        """Take back the blocks of a holder that have no other, its last one first. Contents stay."""
        super().free(holder)
        self.reserved_total -= self._reserved.pop(holder)

    def check_integrity(self) -> None:
        """Raise AssertionError unless blocks, holders, promises and contents add up."""
        super().check_integrity()
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(f"reservations do not add up: {self._reserved}, {len(self._free)} blocks are free")
