"""The block pool of the continuous scheduler: allocations and reservations. Pure bookkeeping, no tensors."""

from collections import deque
from collections.abc import Iterable

PADDING_BLOCK = 0
"""The id of the block that pads block tables. It is never allocated and must not be written to."""


class OutOfBlocksError(RuntimeError):
    """The KV cache has too few blocks for a request."""


class UnschedulableRequestError(OutOfBlocksError):
    """The request ``request_id`` can never be scheduled, even after all other requests have ended."""

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class BlockPool:
    """A pool of the blocks 1 to ``available``, which are allocated in the order in which they were freed.

    The reservation of a request is the maximum number of blocks that it may hold, including those that it holds now.
    The sum of all reservations never exceeds ``available``, so ``allocate`` cannot fail as long as a request stays
    within its reservation.
    """

    def __init__(self, available: int) -> None:
        self.available = available
        self.reserved_total = 0
        self._free: deque[int] = deque(range(1, available + 1))
        self._held: dict[str, list[int]] = {}
        self._reserved: dict[str, int] = {}

    @property
    def used_total(self) -> int:
        """Return the number of allocated blocks."""
        return self.available - len(self._free)

    @property
    def unreserved(self) -> int:
        """Return the number of blocks that are not reserved: ``available`` minus the sum of all reservations."""
        return self.available - self.reserved_total

    def held(self, request_id: str) -> tuple[int, ...]:
        """Return the ids of the blocks of a request, oldest first."""
        return tuple(self._held[request_id])

    def reserve(self, request_id: str, blocks: int) -> None:
        """Reserve ``blocks`` blocks for a new request.

        Raises OutOfBlocksError if fewer blocks are unreserved.
        """
        if blocks > self.unreserved:
            raise OutOfBlocksError(
                f"request {request_id} needs up to {blocks} blocks, "
                f"but only {self.unreserved} of {self.available} blocks are not reserved for other requests"
            )
        self._reserved[request_id] = blocks
        self._held[request_id] = []
        self.reserved_total += blocks

    def allocate(self, request_id: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks to a request.

        Raises OutOfBlocksError if the request would then have more blocks than its reservation.
        """
        held = self._held[request_id]
        if len(held) + blocks > self._reserved[request_id]:
            raise OutOfBlocksError(
                f"request {request_id} holds {len(held)} blocks and needs {blocks} more, "
                f"but only {self._reserved[request_id]} blocks in total were reserved for it"
            )
        held += [self._free.popleft() for _ in range(blocks)]

    def free(self, request_id: str) -> None:
        """Free the blocks and the reservation of a request."""
        self._free.extend(self._held.pop(request_id))
        self.reserved_total -= self._reserved.pop(request_id)

    def check_integrity(self) -> None:
        """Raise AssertionError unless the pool is consistent.

        Every block must be either free or held by one request. No request may have more blocks than its reservation.
        """
        everywhere = [*self._free, *_flatten(self._held.values())]
        if sorted(everywhere) != list(range(1, self.available + 1)):
            raise AssertionError(
                f"each block from 1 to {self.available} must be free, or held by exactly one request, but the "
                f"free blocks are {list(self._free)}, and the blocks by request are {self._held}"
            )
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(
                f"reserved_total must be the sum of the reservations, and at most {self.available}, the number of "
                f"blocks, but it is {self.reserved_total}, and the reservations are {self._reserved}"
            )
        for request_id, blocks in self._held.items():
            if len(blocks) > self._reserved[request_id]:
                raise AssertionError(
                    f"request {request_id} may hold at most the {self._reserved[request_id]} blocks reserved for it, "
                    f"but it holds {len(blocks)}"
                )


def _flatten(lists: Iterable[list[int]]) -> Iterable[int]:
    return (block for blocks in lists for block in blocks)
