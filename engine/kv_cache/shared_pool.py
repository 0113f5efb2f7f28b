"""The block pool of the token-budget scheduler: blocks that requests share. Pure bookkeeping, no tensors.

As in vLLM, blocks are not reserved: callers check the number of free blocks before they allocate any. PrefixPool, the
pool of the chunked scheduler, adds reservations.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import chain

from engine.kv_cache.block_hash import ContentKey
from engine.kv_cache.block_pool import OutOfBlocksError


class SharedPool:
    """A pool of the blocks 1 to ``available``, which are allocated from the front of a queue of free blocks.

    Several requests may hold a block. A full block can be registered under its content key, a hash of its tokens and
    all tokens before them (block_hash.py). It can then be found by that key, until it is allocated again. A freed block
    with a key goes to the end of the queue. A freed block without a key goes to the front of the queue with
    ``keyless_first``, else to the end.

    Source: docs/scheduling-rules-token-budget.md, "TB-FREE".
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
        """Return the number of blocks that requests hold; a shared block counts once."""
        return self.available - len(self._free)

    @property
    def free_total(self) -> int:
        """Return the number of free blocks, including blocks that can still be found by their content key."""
        return len(self._free)

    @property
    def free_queue(self) -> tuple[int, ...]:
        """Return the free blocks in the order in which they will be allocated."""
        return tuple(self._free)

    def held(self, request_id: str) -> tuple[int, ...]:
        """Return the ids of the blocks of a request, in the order of its tokens."""
        return tuple(self._held[request_id])

    def in_use(self, block: int) -> bool:
        """Return whether any request holds the block."""
        return block not in self._free

    def find(self, keys: Iterable[ContentKey]) -> tuple[int, ...]:
        """Return one block for each of ``keys``, in their order, and stop before the first key that no block has.

        If several blocks have the same key, the one that was registered first is returned.
        """
        found = []
        for key in keys:
            blocks = self._blocks_of.get(key)
            if blocks is None:
                break
            found.append(blocks[0])
        return tuple(found)

    def worst_case(self, blocks: int, found: Sequence[int]) -> int:
        """Return how many blocks leave the free queue if a request gets ``blocks`` blocks in total.

        ``found`` are the blocks among them that the request shares. A shared block that another request holds is not in
        the free queue.
        """
        return blocks - sum(map(self.in_use, found))

    def share(self, request_id: str, found: Sequence[int]) -> None:
        """Add a request that shares the blocks ``found``, and remove these blocks from the queue of free blocks."""
        for block in found:
            self._free.pop(block, None)
        self._holders.update(found)
        self._held[request_id] = list(found)

    def take(self, request_id: str, blocks: int) -> None:
        """Allocate ``blocks`` more blocks to a request. The allocated blocks lose their content keys.

        Raises OutOfBlocksError, and allocates nothing, if fewer blocks are free.
        """
        if blocks > len(self._free):
            raise OutOfBlocksError(
                f"request {request_id} needs {blocks} more blocks, but only {len(self._free)} are free"
            )
        for _ in range(blocks):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._held[request_id].append(block)
            self._holders[block] = 1

    def name(self, block: int, key: ContentKey) -> None:
        """Register a block under its content key, so that it can be found. A block that has a key keeps it."""
        if block not in self._key_of:
            self._key_of[block] = key
            self._blocks_of.setdefault(key, deque()).append(block)

    def free(self, request_id: str) -> None:
        """Remove a request, and free the blocks that no other request holds, last block first.

        Freed blocks with a content key can still be found.
        """
        keyless = []
        for block in reversed(self._held.pop(request_id)):
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
        """Raise AssertionError if the attributes of the pool contradict each other.

        Each block must be either free or held by the requests that are counted as its holders. No request may hold a
        block twice. The mapping from block to content key and the mapping from content key to blocks must agree.
        """
        counted = Counter(chain.from_iterable(self._held.values()))
        if counted != self._holders:
            raise AssertionError(
                f"the number of requests that hold each block must agree with the blocks of the requests, but the pool "
                f"counts {dict(self._holders)}, and the blocks of the requests give {dict(counted)}"
            )
        if sorted([*self._free, *counted]) != list(range(1, self.available + 1)):
            raise AssertionError(
                f"each block from 1 to {self.available} must be either free or held, but the "
                f"free blocks are {list(self._free)}, and the blocks by request are {self._held}"
            )
        for request_id, blocks in self._held.items():
            if len(set(blocks)) != len(blocks):
                raise AssertionError(f"request {request_id} has a block twice in its block table: {blocks}")
        found = [(block, key) for key, blocks in self._blocks_of.items() for block in blocks]
        if sorted(found) != sorted(self._key_of.items()):
            raise AssertionError(
                f"the mapping from block to content key and the mapping from content key to blocks must agree, but "
                f"only one of them has {sorted(set(found) ^ set(self._key_of.items())) or 'a pair (block, key) twice'}"
            )

    def _forget(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            blocks = self._blocks_of[key]
            blocks.remove(block)
            if not blocks:
                del self._blocks_of[key]
