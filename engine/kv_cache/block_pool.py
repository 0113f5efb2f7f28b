"""The blocks of the KV cache: allocations and reservations. Pure bookkeeping, no tensors."""

from collections import deque
from collections.abc import Iterable

PADDING_BLOCK = 0
"""Never allocated: block tables use it for padding, and it must not be written to."""


class OutOfBlocksError(RuntimeError):
    """The cache has too few blocks for a request."""


class UnschedulableRequestError(OutOfBlocksError):
    """The request ``request_id`` can never be scheduled, even after all other requests have ended."""

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class BlockPool:
    """Blocks 1 to ``available``, allocated in the order in which they were freed, with a reservation per holder.

    A reservation is the maximum number of blocks of a holder. The sum of all reservations never exceeds ``available``,
    so an ``allocate`` within a reservation cannot fail.
    """

    def __init__(self, available: int) -> None:
        self.available = available
        self.reserved_total = 0
        self._free: deque[int] = deque(range(1, available + 1))
        self._held: dict[str, list[int]] = {}
        self._reserved: dict[str, int] = {}

    @property
    def used_total(self) -> int:
        """The number of blocks in use."""
        return self.available - len(self._free)

    @property
    def unreserved(self) -> int:
        """The number of blocks that are not reserved."""
        return self.available - self.reserved_total

    def held(self, holder: str) -> tuple[int, ...]:
        """Return the blocks of ``holder``, oldest first."""
        return tuple(self._held[holder])

    def reserve(self, holder: str, blocks: int) -> None:
        """Reserve ``blocks`` blocks for a new holder.

        Raises OutOfBlocksError where fewer are unreserved.
        """
        if blocks > self.unreserved:
            raise OutOfBlocksError(
                f"request {holder} needs {blocks} blocks to run to its end, "
                f"but {self.unreserved} of {self.available} are unreserved"
            )
        self._reserved[holder] = blocks
        self._held[holder] = []
        self.reserved_total += blocks

    def allocate(self, holder: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks to a holder, within its reservation."""
        held = self._held[holder]
        if len(held) + blocks > self._reserved[holder]:
            raise OutOfBlocksError(
                f"request {holder} holds {len(held)} blocks and needs {blocks} more, "
                f"but {self._reserved[holder]} were reserved for it"
            )
        held += [self._free.popleft() for _ in range(blocks)]

    def free(self, holder: str) -> None:
        """Free the blocks and the reservation of a holder."""
        self._free.extend(self._held.pop(holder))
        self.reserved_total -= self._reserved.pop(holder)

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is free or held, exactly once, within its reservation."""
        everywhere = [*self._free, *_flatten(self._held.values())]
        if sorted(everywhere) != list(range(1, self.available + 1)):
            raise AssertionError(f"blocks lost or owned twice: free {list(self._free)}, held {self._held}")
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(f"reservations do not add up: {self._reserved} of {self.available}")
        for holder, blocks in self._held.items():
            if len(blocks) > self._reserved[holder]:
                raise AssertionError(f"{holder} holds {len(blocks)} blocks, {self._reserved[holder]} reserved")


def _flatten(lists: Iterable[list[int]]) -> Iterable[int]:
    return (block for blocks in lists for block in blocks)
