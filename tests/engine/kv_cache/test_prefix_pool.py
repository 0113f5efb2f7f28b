"""Tests of the block pool of the prefix cache: how blocks are found by content, shared, freed and allocated."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.kv_cache.block_hash import NOTHING, content_key
from engine.kv_cache.block_pool import OutOfBlocksError
from engine.kv_cache.prefix_pool import PrefixPool
from tests.helpers.budget import examples

A, AB, AC, B = (content_key(*key) for key in ((NOTHING, [1]), (b"a", [2]), (b"a", [3]), (NOTHING, [2])))


def held_and_named(pool: PrefixPool, holder: str, *keys: bytes) -> tuple[int, ...]:
    """Allocate one new block for each key to ``holder``, register each block under its key, and return the blocks."""
    pool.open(holder, (), len(keys))
    pool.take(holder, len(keys))
    for block, key in zip(pool.held(holder), keys, strict=True):
        pool.name(block, key)
    return pool.held(holder)


def test_a_key_says_all_tokens_up_to_the_end_of_a_block() -> None:
    first, second = [1] * 64, [2] * 64
    assert content_key(NOTHING, first) == content_key(NOTHING, tuple(first))
    both = content_key(content_key(NOTHING, first), second)
    assert both != content_key(content_key(NOTHING, second), second)
    assert both != content_key(NOTHING, second)
    assert content_key(NOTHING, [-1]) != content_key(NOTHING, [1])


def test_the_longest_run_is_found_and_not_what_comes_after_a_gap() -> None:
    pool = PrefixPool(8, enable_prefix_caching=True)
    one, two = held_and_named(pool, "x", A, AB)
    assert pool.find([A, AB]) == (one, two)
    assert pool.find([A, AC]) == (one,)
    assert pool.find([AC, AB]) == ()
    assert pool.find([B]) == ()


def test_of_blocks_alike_the_oldest_is_found() -> None:
    pool = PrefixPool(8, enable_prefix_caching=True)
    (older,), _ = held_and_named(pool, "x", A), held_and_named(pool, "y", A)
    assert pool.find([A]) == (older,)
    pool.free("x")
    pool.open("z", (), 6)
    pool.take("z", 6)
    assert pool.find([A]) == (older,)  # the free blocks before it were allocated first
    pool.free("y")
    pool.check_integrity()


def test_a_shared_block_is_counted_once_and_is_free_when_the_last_has_gone() -> None:
    pool = PrefixPool(4, enable_prefix_caching=True)
    (block,) = held_and_named(pool, "x", A)
    pool.open("y", (block,), 2)
    assert (pool.used_total, pool.reserved_total, pool.unreserved) == (1, 1, 2)
    pool.free("x")
    assert pool.in_use(block)
    pool.free("y")
    assert (pool.used_total, pool.reserved_total, pool.in_use(block)) == (0, 0, False)


def test_what_is_found_in_use_need_not_be_free() -> None:
    pool = PrefixPool(3, enable_prefix_caching=True)
    (block,) = held_and_named(pool, "x", A)
    assert pool.worst_case(3, (block,)) == 2
    pool.open("y", (block,), 3)
    assert pool.unreserved == 0
    with pytest.raises(OutOfBlocksError, match="request z needs up to 1 free blocks, but only 0 of 3 blocks are free"):
        pool.open("z", (), 1)


def test_a_free_block_that_is_found_counts_as_one_that_is_taken() -> None:
    pool = PrefixPool(2, enable_prefix_caching=True)
    (block,) = held_and_named(pool, "x", A)
    pool.free("x")
    assert pool.worst_case(2, pool.find([A])) == 2
    pool.open("y", (block,), 2)
    assert (pool.used_total, pool.unreserved) == (1, 0)


def test_blocks_are_freed_last_one_first_and_handed_out_oldest_first() -> None:
    pool = PrefixPool(3, enable_prefix_caching=True)
    first, second, third = held_and_named(pool, "x", A, AB, B)
    pool.free("x")
    pool.open("y", (), 2)
    pool.take("y", 2)
    assert pool.held("y") == (third, second)
    assert pool.find([A, AB]) == (first,)


def test_a_holder_takes_no_more_than_reserved() -> None:
    pool = PrefixPool(4, enable_prefix_caching=True)
    pool.open("x", (), 1)
    pool.take("x", 1)
    with pytest.raises(OutOfBlocksError, match="request x needs 1 more blocks, but only 0 are reserved for it"):
        pool.take("x", 1)


def test_a_block_keeps_the_key_it_has() -> None:
    pool = PrefixPool(2, enable_prefix_caching=True)
    (block,) = held_and_named(pool, "x", A)
    pool.name(block, B)
    assert (pool.find([A]), pool.find([B])) == ((block,), ())


class AnyUse(RuleBasedStateMachine):
    """Random calls: holders are added, share blocks, get more blocks, register blocks and are freed, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PrefixPool(9, enable_prefix_caching=True)
        self.made = 0
        self.promised: dict[str, int] = {}

    @rule(keys=st.lists(st.sampled_from([A, AB, AC, B]), max_size=3, unique=True), more=st.integers(0, 4))
    def come(self, keys: list[bytes], more: int) -> None:
        found = self.pool.find(keys)
        blocks = len(found) + more
        if self.pool.worst_case(blocks, found) <= self.pool.unreserved:
            self.made += 1
            self.pool.open(str(self.made), found, blocks)
            self.promised[str(self.made)] = more

    @precondition(lambda self: any(self.promised.values()))
    @rule(data=st.data(), key=st.sampled_from([A, AB, AC, B]))
    def grow(self, data: st.DataObject, key: bytes) -> None:
        holder = data.draw(st.sampled_from([h for h, more in self.promised.items() if more]))
        self.pool.take(holder, 1)
        self.promised[holder] -= 1
        self.pool.name(self.pool.held(holder)[-1], key)

    @precondition(lambda self: self.promised)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(sorted(self.promised)))
        self.pool.free(holder)
        del self.promised[holder]

    @invariant()
    def adds_up(self) -> None:
        self.pool.check_integrity()
        assert self.pool.reserved_total == sum(self.promised.values())


AnyUse.TestCase.settings = settings(max_examples=examples(40, 400), stateful_step_count=30, deadline=None)
TestAnyUse = AnyUse.TestCase


@pytest.mark.parametrize("break_it", ["held", "key", "reserved", "free"])
def test_its_own_check_tells_what_does_not_add_up(break_it: str) -> None:
    pool = PrefixPool(4, enable_prefix_caching=True)
    (block,) = held_and_named(pool, "x", A)
    match break_it:
        case "held":
            pool._held["x"].append(block)
        case "key":
            del pool._key_of[block]
        case "reserved":
            pool.reserved_total += 1
        case "free":
            pool._free[block] = None
    with pytest.raises(AssertionError):
        pool.check_integrity()
