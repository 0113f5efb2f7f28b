"""The blocks of the KV cache: who holds which, and what is promised to whom. Pure bookkeeping, no tensors."""

from collections import deque
from collections.abc import Iterable

PADDING_BLOCK = 0
"""Never handed out: it stands for padding in block tables, and nothing may be written to it."""


class OutOfBlocksError(RuntimeError):
    """The cache cannot hold what was asked of it."""


class UnschedulableRequestError(OutOfBlocksError):
    """The request ``request_id`` can never go on, whoever else ends."""

    def __init__(self, message: str, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class BlockPool:
    """Blocks 1 to ``available``, handed out oldest-freed first, with a reservation for every holder.

    A reservation is the most a holder may ever hold; the sum of all reservations never exceeds
    ``available``, so an ``allocate`` within a reservation cannot fail.
    """

    def __init__(self, available: int) -> None:
        self.available = available
        self.reserved_total = 0
        self._free: deque[int] = deque(range(1, available + 1))
        self._held: dict[str, list[int]] = {}
        self._reserved: dict[str, int] = {}

    @property
    def used_total(self) -> int:
        """Blocks held by anybody now."""
        return self.available - len(self._free)

    @property
    def unreserved(self) -> int:
        """Blocks promised to nobody."""
        return self.available - self.reserved_total

    def held(self, holder: str) -> tuple[int, ...]:
        """The blocks of ``holder``, oldest first."""
        return tuple(self._held[holder])

    def reserve(self, holder: str, blocks: int) -> None:
        """Promise ``blocks`` blocks to a new holder.

        Raises OutOfBlocksError where they are not there to be promised.
        """
        if blocks > self.unreserved:
            raise OutOfBlocksError(
                f"request {holder} needs {blocks} blocks to run to its end, "
                f"but {self.unreserved} of {self.available} are not promised to others"
            )
        self._reserved[holder] = blocks
        self._held[holder] = []
        self.reserved_total += blocks

    def allocate(self, holder: str, blocks: int) -> None:
        """Hand ``blocks`` more blocks to a holder, within its reservation."""
        held = self._held[holder]
        if len(held) + blocks > self._reserved[holder]:
            raise OutOfBlocksError(
                f"request {holder} holds {len(held)} blocks and asks for {blocks} more, "
                f"but {self._reserved[holder]} were reserved for it"
            )
        held += [self._free.popleft() for _ in range(blocks)]

    def free(self, holder: str) -> None:
        """Take back the blocks and the reservation of a holder."""
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
