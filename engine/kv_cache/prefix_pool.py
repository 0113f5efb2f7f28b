"""Blocks of the KV cache that requests share by content. Pure bookkeeping, no tensors.

As ``block_pool``, with three differences: a block may have several holders, a freed one keeps its content until it is
handed out again, and what is reserved is what a holder may still take, not what it may hold in all.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import chain

from engine.kv_cache.block_hash import ContentKey
from engine.kv_cache.block_pool import OutOfBlocksError


class PrefixPool:
    """Blocks 1 to ``available``, handed out from the front of a free queue; those with a key are found by content.

    With ``enable_prefix_caching`` a freed block that has no key goes to the front of the queue, since it can't be
    found, and one with a key to the end; without it every freed block goes to the end (vLLM 0.27's ``BlockPool``).
    """

    def __init__(self, available: int, *, enable_prefix_caching: bool) -> None:
        self.available = available
        self._enable_prefix_caching = enable_prefix_caching
        self.reserved_total = 0
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, available + 1))
        self._held: dict[str, list[int]] = {}
        self._holders: Counter[int] = Counter()
        self._reserved: dict[str, int] = {}
        self._key_of: dict[int, ContentKey] = {}
        self._blocks_of: dict[ContentKey, deque[int]] = {}

    @property
    def used_total(self) -> int:
        """Blocks held by anybody now, each counted once."""
        return self.available - len(self._free)

    @property
    def unreserved(self) -> int:
        """Free blocks promised to nobody."""
        return len(self._free) - self.reserved_total

    def held(self, holder: str) -> tuple[int, ...]:
        """The blocks of ``holder`` in the order of its tokens."""
        return tuple(self._held[holder])

    def in_use(self, block: int) -> bool:
        """Whether anybody holds it."""
        return block not in self._free

    def find(self, keys: Iterable[ContentKey]) -> tuple[int, ...]:
        """The blocks with the longest run of ``keys`` from the first; of blocks alike the oldest."""
        found = []
        for key in keys:
            blocks = self._blocks_of.get(key)
            if blocks is None:
                break
            found.append(blocks[0])
        return tuple(found)

    def worst_case(self, blocks: int, found: Sequence[int]) -> int:
        """How many free blocks a request for ``blocks`` in all takes, those it would find in use not counted."""
        return blocks - sum(map(self.in_use, found))

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
        for block in found:
            self._free.pop(block, None)
        self._holders.update(found)
        self._held[holder] = list(found)
        self._reserved[holder] = blocks - len(found)
        self.reserved_total += blocks - len(found)

    def take(self, holder: str, blocks: int) -> None:
        """Hand out ``blocks`` more blocks, within the reservation, which shrinks by them."""
        if blocks > self._reserved[holder]:
            raise OutOfBlocksError(
                f"request {holder} asks for {blocks} more blocks, but {self._reserved[holder]} are reserved for it"
            )
        for _ in range(blocks):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._held[holder].append(block)
            self._holders[block] = 1
        self._reserved[holder] -= blocks
        self.reserved_total -= blocks

    def name(self, block: int, key: ContentKey) -> None:
        """Let a block that is held be found by its content from now on; one that has a key keeps it."""
        if block not in self._key_of:
            self._key_of[block] = key
            self._blocks_of.setdefault(key, deque()).append(block)

    def free(self, holder: str) -> None:
        """Take back the blocks of a holder that have no other, its last one first. Contents stay."""
        keyless = []
        for block in reversed(self._held.pop(holder)):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            self._free[block] = None
            if self._enable_prefix_caching and block not in self._key_of:
                keyless.append(block)
        for block in reversed(keyless):
            self._free.move_to_end(block, last=False)
        self.reserved_total -= self._reserved.pop(holder)

    def check_integrity(self) -> None:
        """Raise AssertionError unless blocks, holders, promises and contents add up."""
        counted = Counter(chain.from_iterable(self._held.values()))
        if counted != self._holders:
            raise AssertionError(f"holders are {dict(self._holders)}, block tables say {dict(counted)}")
        if sorted([*self._free, *counted]) != list(range(1, self.available + 1)):
            raise AssertionError(f"blocks lost or free and held: free {list(self._free)}, held {self._held}")
        if any(len(set(blocks)) != len(blocks) for blocks in self._held.values()):
            raise AssertionError(f"a block stands twice in a table: {self._held}")
        if self.reserved_total != sum(self._reserved.values()) or self.unreserved < 0:
            raise AssertionError(f"reservations do not add up: {self._reserved}, {len(self._free)} blocks are free")
        found = [(block, key) for key, blocks in self._blocks_of.items() for block in blocks]
        if sorted(found) != sorted(self._key_of.items()):
            raise AssertionError("contents and the blocks that have them do not agree")

    def _forget(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            blocks = self._blocks_of[key]
            blocks.remove(block)
            if not blocks:
                del self._blocks_of[key]
