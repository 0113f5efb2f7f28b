"""The block pool of the chunked scheduler: shared blocks with reservations. Pure bookkeeping, no tensors.

The pool differs from ``BlockPool`` in three ways. Several requests may hold a block. A freed block keeps its content
until it is allocated again. A reservation counts only the blocks that the request may still take, not the blocks that
it holds already.
"""

from collections.abc import Sequence

from engine.kv_cache.block_pool import OutOfBlocksError
from engine.kv_cache.shared_pool import SharedPool


class PrefixPool(SharedPool):
    """A SharedPool in which each request has a reservation: the number of blocks that it may still take.

    With ``enable_prefix_caching``, a freed block that is registered in the prefix cache goes to the end of the queue of
    free blocks. A freed block that is not registered cannot be found again, and goes to the front. Without
    ``enable_prefix_caching``, every freed block goes to the end. vLLM 0.27 does the same (class ``BlockPool``).
    """

    def __init__(self, available: int, *, enable_prefix_caching: bool) -> None:
        super().__init__(available, keyless_first=enable_prefix_caching)
        self.reserved_total = 0
        self._reserved: dict[str, int] = {}

    @property
    def unreserved(self) -> int:
        """Return the number of free blocks that are not reserved for a request."""
        return len(self._free) - self.reserved_total

    def open(self, request_id: str, found: Sequence[int], blocks: int) -> None:
        """Add a request that needs at most ``blocks`` blocks in total, and reserve the blocks that it does not share.

        ``found`` are the blocks of the prefix cache that the request shares. Raises OutOfBlocksError if ``unreserved``
        is less than the number of blocks that the request can take out of the free queue (``worst_case``).
        """
        needed = self.worst_case(blocks, found)
        if needed > self.unreserved:
            raise OutOfBlocksError(
                f"request {request_id} needs up to {needed} free blocks, "
                f"but only {self.unreserved} of {self.available} blocks are free and not reserved for other requests"
            )
        self.share(request_id, found)
        self._reserved[request_id] = blocks - len(found)
        self.reserved_total += blocks - len(found)

    def take(self, request_id: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks to a request, and reduce its reservation by ``blocks``.

        Raises OutOfBlocksError if ``blocks`` exceeds the reservation.
        """
        if blocks > self._reserved[request_id]:
            raise OutOfBlocksError(
                f"request {request_id} needs {blocks} more blocks, "
                f"but only {self._reserved[request_id]} are reserved for it"
            )
        super().take(request_id, blocks)
        self._reserved[request_id] -= blocks
        self.reserved_total -= blocks

    def free(self, request_id: str) -> None:
        """Remove a request and its reservation, and free the blocks that no other request holds, last block first.

        Freed blocks that are registered in the prefix cache can still be found.
        """
        super().free(request_id)
        self.reserved_total -= self._reserved.pop(request_id)

    def check_integrity(self) -> None:
        """Raise AssertionError unless blocks, their requests, reservations and content keys are consistent."""
        super().check_integrity()
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(
                f"reserved_total must be the sum of the reservations, and at most {len(self._free)}, the number of "
                f"free blocks, but it is {self.reserved_total}, and the reservations are {self._reserved}"
            )
