"""Blocks of the KV cache that requests share by content, with reservations. Pure bookkeeping, no tensors.

There are three differences to ``block_pool``: a block may have several holders, a freed block keeps its content until
it is allocated again, and a reservation counts the blocks that a holder may still take instead of all its blocks.
"""

from collections.abc import Sequence

from engine.kv_cache.block_pool import OutOfBlocksError
from engine.kv_cache.shared_pool import SharedPool


class PrefixPool(SharedPool):
    """A SharedPool with a reservation per holder, for all blocks that it may still take.

    With ``enable_prefix_caching`` a freed block without a key goes to the front of the free queue, since it cannot be
    found again, and a block with a key to the end; otherwise every freed block goes to the end (``BlockPool`` of vLLM
    0.27).
    """

    def __init__(self, available: int, *, enable_prefix_caching: bool) -> None:
        super().__init__(available, keyless_first=enable_prefix_caching)
        self.reserved_total = 0
        self._reserved: dict[str, int] = {}

    @property
    def unreserved(self) -> int:
        """The number of free blocks that are not reserved."""
        return len(self._free) - self.reserved_total

    def open(self, holder: str, found: Sequence[int], blocks: int) -> None:
        """Add a holder that shares the blocks ``found``, and reserve the rest of its ``blocks`` blocks.

        Raises OutOfBlocksError where fewer are unreserved.
        """
        needed = self.worst_case(blocks, found)
        if needed > self.unreserved:
            raise OutOfBlocksError(
                f"request {holder} needs {needed} blocks to run to its end, "
                f"but {self.unreserved} of {self.available} are free and unreserved"
            )
        self.share(holder, found)
        self._reserved[holder] = blocks - len(found)
        self.reserved_total += blocks - len(found)

    def take(self, holder: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks within the reservation, which decreases by as many."""
        if blocks > self._reserved[holder]:
            raise OutOfBlocksError(
                f"request {holder} needs {blocks} more blocks, but {self._reserved[holder]} are reserved for it"
            )
        super().take(holder, blocks)
        self._reserved[holder] -= blocks
        self.reserved_total -= blocks

    def free(self, holder: str) -> None:
        """Free the blocks that only this holder has, its last one first. Their contents can still be found."""
        super().free(holder)
        self.reserved_total -= self._reserved.pop(holder)

    def check_integrity(self) -> None:
        """Raise AssertionError unless blocks, holders, reservations and contents are consistent."""
        super().check_integrity()
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(f"reservations do not add up: {self._reserved}, {len(self._free)} blocks are free")
