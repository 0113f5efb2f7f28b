"""Tests of the block pool without reservations: the order in which blocks are allocated and freed."""

import pytest

from engine.kv_cache.block_pool import OutOfBlocksError
from engine.kv_cache.shared_pool import SharedPool


def pool_with(available: int, *, keyless_first: bool = True) -> SharedPool:
    pool = SharedPool(available, keyless_first=keyless_first)
    for holder, blocks in (("a", 2), ("b", 2)):
        pool.share(holder, ())
        pool.take(holder, blocks)
    return pool


def test_blocks_are_handed_out_in_the_order_of_their_ids_at_first() -> None:
    pool = pool_with(6)
    assert (pool.held("a"), pool.held("b"), pool.free_queue) == ((1, 2), (3, 4), (5, 6))
    assert (pool.used_total, pool.free_total) == (4, 2)


@pytest.mark.parametrize(("keyless_first", "queue"), [(True, (2, 1, 5, 6)), (False, (5, 6, 2, 1))])
def test_freed_blocks_without_a_key_go_to_the_front_or_to_the_end(keyless_first: bool, queue: tuple[int, ...]) -> None:
    pool = pool_with(6, keyless_first=keyless_first)
    pool.free("a")
    assert pool.free_queue == queue
    pool.check_integrity()


def test_freed_blocks_with_a_key_go_to_the_end_last_one_first() -> None:
    pool = pool_with(6)
    pool.name(1, b"one")
    pool.name(3, b"three")
    pool.name(4, b"four")
    pool.free("a")
    pool.free("b")
    assert pool.free_queue == (2, 5, 6, 1, 4, 3)


def test_a_found_block_leaves_the_queue_and_counts_where_it_was_free() -> None:
    pool = pool_with(5)
    pool.name(1, b"one")
    pool.name(3, b"three")
    pool.free("a")
    found = pool.find([b"one"])
    assert (found, pool.worst_case(3, found)) == ((1,), 3)
    assert pool.worst_case(3, pool.find([b"three"])) == 2
    pool.share("c", found)
    assert pool.free_queue == (2, 5)
    pool.check_integrity()


def test_a_block_loses_its_key_when_it_is_handed_out() -> None:
    pool = pool_with(4)
    pool.name(2, b"two")
    pool.free("a")
    pool.share("c", ())
    pool.take("c", 1)
    assert pool.find([b"two"]) == (2,)
    pool.take("c", 1)
    assert pool.find([b"two"]) == ()


def test_of_blocks_alike_the_one_registered_first_is_found_while_it_lasts() -> None:
    pool = pool_with(4)
    pool.name(3, b"same")
    pool.name(1, b"same")
    assert pool.find([b"same"]) == (3,)
    pool.free("b")
    pool.share("c", ())
    pool.take("c", 2)
    assert pool.find([b"same"]) == (1,)


def test_more_than_is_free_is_not_handed_out_in_part() -> None:
    pool = pool_with(5)
    with pytest.raises(OutOfBlocksError, match="request b needs 2 more blocks, but only 1 are free"):
        pool.take("b", 2)
    assert pool.free_queue == (5,)
