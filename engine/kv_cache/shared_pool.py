"""Blocks of the KV cache that requests share by content, allocated on demand. Pure bookkeeping, no tensors.

As in vLLM, nothing is reserved: callers check the number of free blocks before they take any.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import chain

from engine.kv_cache.block_hash import ContentKey
from engine.kv_cache.block_pool import OutOfBlocksError


class SharedPool:
    """Blocks 1 to ``available``, allocated from the front of a free queue; blocks with a key can be found by content.

    A block may have several holders; a freed block keeps its key until it is allocated again. A freed block with a key
    goes to the end of the queue. A freed block without a key goes to the front with ``keyless_first``, else to the end
    (docs/scheduling-rules-token-budget.md, "TB-FREE").
    """

    def __init__(self, available: int, *, keyless_first: bool) -> None:
        self.available = available
        self._keyless_first = keyless_first
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, available + 1))
        self._held: dict[str, list[int]] = {}
        self._holders: Counter[int] = Counter()
        self._key_of: dict[int, ContentKey] = {}
        self._blocks_of: dict[ContentKey, deque[int]] = {}

    @property
    def used_total(self) -> int:
        """The number of blocks held by any request, each counted once."""
        return self.available - len(self._free)

    @property
    def free_total(self) -> int:
        """The number of blocks in the free queue, including those that can still be found."""
        return len(self._free)

    @property
    def free_queue(self) -> tuple[int, ...]:
        """The free blocks in the order in which they will be allocated."""
        return tuple(self._free)

    def held(self, holder: str) -> tuple[int, ...]:
        """Return the blocks of ``holder`` in the order of its tokens."""
        return tuple(self._held[holder])

    def in_use(self, block: int) -> bool:
        """Return whether any request holds the block."""
        return block not in self._free

    def find(self, keys: Iterable[ContentKey]) -> tuple[int, ...]:
        """Return the blocks of the longest cached prefix of ``keys``; of equal blocks the one registered first."""
        found = []
        for key in keys:
            blocks = self._blocks_of.get(key)
            if blocks is None:
                break
            found.append(blocks[0])
        return tuple(found)

    def worst_case(self, blocks: int, found: Sequence[int]) -> int:
        """Return how many free blocks a request for ``blocks`` in all takes, including found ones that are free."""
        return blocks - sum(map(self.in_use, found))

    def share(self, holder: str, found: Sequence[int]) -> None:
        """Register a new holder of the blocks ``found``; those that are free leave the queue."""
        for block in found:
            self._free.pop(block, None)
        self._holders.update(found)
        self._held[holder] = list(found)

    def take(self, holder: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks, all or none; they lose their keys.

        Raises OutOfBlocksError where fewer are free.
        """
        if blocks > len(self._free):
            raise OutOfBlocksError(f"request {holder} needs {blocks} more blocks, but {len(self._free)} are free")
        for _ in range(blocks):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._held[holder].append(block)
            self._holders[block] = 1

    def name(self, block: int, key: ContentKey) -> None:
        """Register a held block under its content key; a block that has a key keeps it."""
        if block not in self._key_of:
            self._key_of[block] = key
            self._blocks_of.setdefault(key, deque()).append(block)

    def free(self, holder: str) -> None:
        """Free the blocks that only this holder has, its last one first. Their contents can still be found."""
        keyless = []
        for block in reversed(self._held.pop(holder)):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            self._free[block] = None
            if self._keyless_first and block not in self._key_of:
                keyless.append(block)
        for block in reversed(keyless):
            self._free.move_to_end(block, last=False)

    def check_integrity(self) -> None:
        """Raise AssertionError unless blocks, holders and contents are consistent."""
        counted = Counter(chain.from_iterable(self._held.values()))
        if counted != self._holders:
            raise AssertionError(f"holders are {dict(self._holders)}, block tables say {dict(counted)}")
        if sorted([*self._free, *counted]) != list(range(1, self.available + 1)):
            raise AssertionError(f"blocks lost or free and held: free {list(self._free)}, held {self._held}")
        if any(len(set(blocks)) != len(blocks) for blocks in self._held.values()):
            raise AssertionError(f"a block stands twice in a table: {self._held}")
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
