"""Tests of the block pool of the continuous scheduler: reservation and allocation of blocks."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.kv_cache.block_pool import PADDING_BLOCK, BlockPool, OutOfBlocksError
from tests.helpers.budget import examples


def pool_with(available: int, **reserved: int) -> BlockPool:
    pool = BlockPool(available)
    for holder, blocks in reserved.items():
        pool.reserve(holder, blocks)
    return pool


def test_all_blocks_but_the_padding_block_can_be_handed_out() -> None:
    pool = pool_with(3, a=3)
    pool.allocate("a", 3)
    assert pool.held("a") == (1, 2, 3)
    assert PADDING_BLOCK not in pool.held("a")


def test_a_reservation_takes_no_block_but_reduces_the_unreserved_ones() -> None:
    pool = pool_with(5, a=3)
    assert (pool.reserved_total, pool.unreserved, pool.used_total) == (3, 2, 0)
    pool.allocate("a", 2)
    assert (pool.reserved_total, pool.unreserved, pool.used_total) == (3, 2, 2)
    pool.free("a")
    assert (pool.reserved_total, pool.unreserved, pool.used_total) == (0, 5, 0)


def test_the_last_unreserved_block_can_be_reserved_and_not_one_more() -> None:
    pool = pool_with(4, a=3)
    with pytest.raises(OutOfBlocksError, match=r"b needs up to 2 blocks, but only 1 of 4"):
        pool.reserve("b", 2)
    pool.check_integrity()
    pool.reserve("b", 1)
    assert pool.unreserved == 0


def test_a_refused_reservation_leaves_no_trace() -> None:
    pool = pool_with(2, a=2)
    with pytest.raises(OutOfBlocksError):
        pool.reserve("b", 1)
    with pytest.raises(KeyError):
        pool.held("b")
    assert pool.reserved_total == 2


def test_no_holder_gets_more_than_reserved_although_blocks_are_free() -> None:
    pool = pool_with(9, a=2)
    pool.allocate("a", 1)
    with pytest.raises(OutOfBlocksError, match=r"a holds 1 blocks and needs 2 more, but only 2 blocks in total were"):
        pool.allocate("a", 2)
    assert pool.held("a") == (1,)
    pool.check_integrity()


def test_blocks_come_back_in_use_in_the_order_in_which_they_were_freed() -> None:
    pool = pool_with(4, a=2, b=1, c=1)
    for holder, blocks in (("a", 2), ("b", 1), ("c", 1)):
        pool.allocate(holder, blocks)
    pool.free("b")
    pool.free("a")
    pool.reserve("d", 3)
    pool.allocate("d", 3)
    assert pool.held("d") == (3, 1, 2)


def test_held_blocks_are_in_the_order_in_which_they_were_taken() -> None:
    pool = pool_with(4, a=3, b=1)
    pool.allocate("a", 1)
    pool.allocate("b", 1)
    pool.allocate("a", 2)
    assert pool.held("a") == (1, 3, 4)


def lose_a_block(pool: BlockPool) -> None:
    pool._free.pop()


def free_a_held_block(pool: BlockPool) -> None:
    pool._free.append(pool.held("a")[0])


def hand_a_block_to_two(pool: BlockPool) -> None:
    pool._held["b"].append(pool.held("a")[0])


def hand_out_the_padding_block(pool: BlockPool) -> None:
    pool._held["a"][0] = PADDING_BLOCK


def forget_a_reservation(pool: BlockPool) -> None:
    pool.reserved_total -= 1


def promise_too_much(pool: BlockPool) -> None:
    pool._reserved["a"] += 10
    pool.reserved_total += 10


def shrink_a_reservation(pool: BlockPool) -> None:
    pool._reserved["a"] -= 1
    pool.reserved_total -= 1


@pytest.mark.parametrize(
    "tamper",
    [
        lose_a_block,
        free_a_held_block,
        hand_a_block_to_two,
        hand_out_the_padding_block,
        forget_a_reservation,
        promise_too_much,
        shrink_a_reservation,
    ],
    ids=lambda tamper: tamper.__name__,
)
def test_the_integrity_check_sees(tamper: Callable[[BlockPool], None]) -> None:
    pool = pool_with(6, a=2, b=2)
    pool.allocate("a", 2)
    pool.check_integrity()
    tamper(pool)
    with pytest.raises(AssertionError):
        pool.check_integrity()


class AnyUseOfThePool(RuleBasedStateMachine):
    """Random calls after which the pool must equal two dictionaries: reserved and held blocks by holder."""

    @initialize(available=st.integers(1, 12))
    def start(self, available: int) -> None:
        self.pool = BlockPool(available)
        self.reserved: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.holders_made = 0

    @rule(blocks=st.integers(1, 6))
    def reserve(self, blocks: int) -> None:
        holder = f"holder-{self.holders_made}"
        self.holders_made += 1
        if sum(self.reserved.values()) + blocks > self.pool.available:
            with pytest.raises(OutOfBlocksError):
                self.pool.reserve(holder, blocks)
        else:
            self.pool.reserve(holder, blocks)
            self.reserved[holder], self.held[holder] = blocks, 0

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), blocks=st.integers(1, 3))
    def allocate(self, data: st.DataObject, blocks: int) -> None:
        holder = data.draw(st.sampled_from(sorted(self.reserved)))
        if self.held[holder] + blocks > self.reserved[holder]:
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate(holder, blocks)
        else:
            self.pool.allocate(holder, blocks)
            self.held[holder] += blocks

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(sorted(self.reserved)))
        self.pool.free(holder)
        del self.reserved[holder], self.held[holder]

    @invariant()
    def the_accounts_agree(self) -> None:
        self.pool.check_integrity()
        assert self.pool.reserved_total == sum(self.reserved.values())
        assert self.pool.used_total == sum(self.held.values())
        assert {holder: len(self.pool.held(holder)) for holder in self.held} == self.held


AnyUseOfThePool.TestCase.settings = settings(deadline=None, max_examples=examples(40, 400))
TestAnyUseOfThePool = AnyUseOfThePool.TestCase
