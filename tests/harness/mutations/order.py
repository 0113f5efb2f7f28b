"""Mutations of how blocks are found, in which order they are allocated, and how many a request needs."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from engine.kv_cache.block_hash import ContentKey
from engine.kv_cache.prefix_pool import PrefixPool
from engine.scheduling.chunked import pausing, scheduler
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.plan import AlignedDecode, ChunkedState, SchedulerState
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from tests.harness.mutations.registry import budget_mutation, chunked_mutation


@chunked_mutation("of-two-blocks-alike-the-older-is-shared-and-it-is-held", "used 5, expected 4")
def share_the_newest_of_blocks_alike(patch: pytest.MonkeyPatch) -> None:
    share_the_newest(patch)


@chunked_mutation("the-older-of-two-blocks-alike-is-free-and-does-not-fit", "expected a decode of 1")
def share_the_newest_of_blocks_alike_where_it_is_held(patch: pytest.MonkeyPatch) -> None:
    share_the_newest(patch)


def share_the_newest(patch: pytest.MonkeyPatch) -> None:
    def newest(self: PrefixPool, keys: Iterable[ContentKey]) -> tuple[int, ...]:
        found = []
        for key in keys:
            if key not in self._blocks_of:
                break
            found.append(self._blocks_of[key][-1])
        return tuple(found)

    patch.setattr(PrefixPool, "find", newest)


@chunked_mutation("of-two-blocks-alike-the-older-is-shared-and-it-is-free", "used 4, expected 5")
def share_a_held_one_of_blocks_alike(patch: pytest.MonkeyPatch) -> None:
    def held_first(self: PrefixPool, keys: Iterable[ContentKey]) -> tuple[int, ...]:
        found = []
        for key in keys:
            blocks = self._blocks_of.get(key)
            if blocks is None:
                break
            found.append(next((block for block in blocks if self.in_use(block)), blocks[0]))
        return tuple(found)

    patch.setattr(PrefixPool, "find", held_first)


@chunked_mutation("the-older-of-two-blocks-alike-is-lost-and-the-other-is-found", "step 14")
def forget_all_blocks_alike_with_the_first(patch: pytest.MonkeyPatch) -> None:
    def forget(self: PrefixPool, block: int) -> None:
        key = self._key_of.pop(block, None)
        for other in self._blocks_of.pop(key, ()) if key is not None else ():
            self._key_of.pop(other, None)

    patch.setattr(PrefixPool, "_forget", forget)


@chunked_mutation("the-end-of-what-a-sharer-had-alone-is-handed-out-first", "hits 3:2, expected 3:4")
def free_the_first_of_a_sharers_own_blocks_first(patch: pytest.MonkeyPatch) -> None:
    free = PrefixPool.free

    def reordered(self: PrefixPool, holder: str) -> None:
        blocks = self._held[holder]
        own = [block for block in blocks if self._holders[block] == 1]
        if len(own) < len(blocks):
            self._held[holder] = [block for block in blocks if block not in own] + own[::-1]
        free(self, holder)

    patch.setattr(PrefixPool, "free", reordered)


@chunked_mutation("a-block-that-was-found-and-freed-again-goes-to-the-end", "step 18")
def hand_out_first_what_was_found_and_freed_again(patch: pytest.MonkeyPatch) -> None:
    opened, free = PrefixPool.open, PrefixPool.free
    found_once: set[int] = set()

    def opening(self: PrefixPool, holder: str, found: Sequence[int], blocks: int) -> None:
        found_once.update(found)
        opened(self, holder, found, blocks)

    def freeing(self: PrefixPool, holder: str) -> None:
        held = list(self._held[holder])
        free(self, holder)
        for block in held:
            if block in found_once and block in self._free:
                self._free.move_to_end(block, last=False)

    patch.setattr(PrefixPool, "open", opening)
    patch.setattr(PrefixPool, "free", freeing)


@chunked_mutation("a-block-that-was-found-and-freed-again-is-handed-out-in-its-turn", "step ")
def never_hand_out_what_was_found(patch: pytest.MonkeyPatch) -> None:
    """Allocate a block that some request has found in the prefix cache only if no other block is free."""
    opened, take = PrefixPool.open, PrefixPool.take
    found_once: set[int] = set()

    def opening(self: PrefixPool, holder: str, found: Sequence[int], blocks: int) -> None:
        found_once.update(found)
        opened(self, holder, found, blocks)

    def taking(self: PrefixPool, holder: str, blocks: int) -> None:
        for block in [block for block in self._free if block in found_once]:
            self._free.move_to_end(block)
        take(self, holder, blocks)

    patch.setattr(PrefixPool, "open", opening)
    patch.setattr(PrefixPool, "take", taking)


@chunked_mutation("a-block-that-two-found-goes-back-when-the-last-of-them-ends", "step 26")
def free_what_is_shared_where_the_first_of_them_ended(patch: pytest.MonkeyPatch) -> None:
    """Put a shared block at the front of the free queue when the last request that holds it ends.

    Its correct position is behind the blocks that were freed before.
    """
    free = PrefixPool.free

    def early(self: PrefixPool, holder: str) -> None:
        self._shared = getattr(self, "_shared", []) + [b for b in self._held[holder] if self._holders[b] > 1]  # type: ignore[attr-defined]
        free(self, holder)
        for block in self._shared:  # type: ignore[attr-defined]
            if block in self._free:
                self._free.move_to_end(block, last=False)

    patch.setattr(PrefixPool, "free", early)


@chunked_mutation("without-interleaving-a-full-batch-lets-nobody-start", "expected a decode of")
def let_one_more_run_without_interleaving(patch: pytest.MonkeyPatch) -> None:
    may_start = ChunkedScheduler._may_start

    def generous(self: ChunkedScheduler) -> bool:
        if self.chunking.interleave or not self._running:
            return may_start(self)
        return self._may_interleave() and len(self._running) <= self.limits.max_num_seqs

    patch.setattr(ChunkedScheduler, "_may_start", generous)


@chunked_mutation("without-interleaving-a-batch-is-filled-exactly", "expected a prefill of 2")
def let_one_fewer_run_without_interleaving(patch: pytest.MonkeyPatch) -> None:
    may_start = ChunkedScheduler._may_start

    def strict(self: ChunkedScheduler) -> bool:
        if self.chunking.interleave or not self._running:
            return may_start(self)
        return self._may_interleave() and len(self._running) < self.limits.max_num_seqs - 1

    patch.setattr(ChunkedScheduler, "_may_start", strict)


@chunked_mutation("one-that-alone-is-just-beyond-the-limit", "paused")
def let_a_lone_request_go_beyond_the_limit(patch: pytest.MonkeyPatch) -> None:
    def lenient(candidates: Sequence[Any], limit: int) -> tuple[list[Any], list[Any]]:
        decoding: list[Any] = []
        paused: list[Any] = []
        for sequence in candidates:
            fits = not decoding or pausing.batch_tkv([*decoding, sequence]) <= limit
            (decoding if fits else paused).append(sequence)
        return decoding, paused

    patch.setattr(scheduler, "divide", lenient)


@chunked_mutation("padding-counts-and-is-just-beyond-the-limit", "paused")
def count_no_padding_in_batch_tkv(patch: pytest.MonkeyPatch) -> None:
    without_padding(patch, lambda batch: max(s.computed + 1 for s in batch))


@chunked_mutation("padding-counts-and-is-just-within-the-limit", "paused")
def count_whole_blocks_in_batch_tkv(patch: pytest.MonkeyPatch) -> None:
    without_padding(patch, lambda batch: -(-max(s.computed + 1 for s in batch) // 64) * 64)


@chunked_mutation("padding-of-a-third-is-just-beyond-the-limit", "paused")
def count_the_tkv_of_the_longest_in_batch_tkv(patch: pytest.MonkeyPatch) -> None:
    without_padding(patch, lambda batch: max(s.computed + 1 for s in batch))


@chunked_mutation("padding-of-a-third-is-just-within-the-limit", "paused")
def count_a_block_more_in_batch_tkv_of_three(patch: pytest.MonkeyPatch) -> None:
    count = pausing.batch_tkv
    for module in (pausing, scheduler):
        patch.setattr(module, "batch_tkv", lambda batch: count(batch) + (64 if len(batch) == 3 else 0))


def without_padding(patch: pytest.MonkeyPatch, tkv: Any) -> None:
    for module in (pausing, scheduler):
        patch.setattr(module, "batch_tkv", lambda batch: len(batch) * tkv(batch) if batch else 0)


def commit_in_reverse(patch: pytest.MonkeyPatch, scheduler: type[Any]) -> None:
    """If several requests end in one step, free their blocks in the reverse order of the requests."""
    commit = scheduler.commit

    def turned(self: Any, ended: Any) -> None:
        self._running.reverse()
        commit(self, ended)
        self._running.reverse()

    patch.setattr(scheduler, "commit", turned)


@chunked_mutation("of-two-that-end-in-one-step-the-newer-is-handed-out-first", "hits -, expected 3:1")
def free_the_blocks_of_the_oldest_that_finishes_first(patch: pytest.MonkeyPatch) -> None:
    commit_in_reverse(patch, ChunkedScheduler)


@budget_mutation("of-two-that-end-in-one-step-the-first-is-handed-out-first", "hits -, expected 3:64")
def free_the_blocks_of_those_that_end_together_last_one_first(patch: pytest.MonkeyPatch) -> None:
    commit_in_reverse(patch, TokenBudgetScheduler)


@chunked_mutation("of-two-blocks-that-one-decode-fills-the-newer-request-has-the-older", "used 3, expected 4")
def register_the_block_of_the_oldest_in_a_decode_first(patch: pytest.MonkeyPatch) -> None:
    decode = ChunkedScheduler._decode

    def turned(self: ChunkedScheduler, decoding: list[Any]) -> AlignedDecode:
        made = decode(self, decoding[::-1])
        return AlignedDecode(made.request_ids[::-1], made.computed[::-1], made.tkvs[::-1], made.block_tables[::-1])

    patch.setattr(ChunkedScheduler, "_decode", turned)


@chunked_mutation("a-request-that-skipped-a-chunk-is-paused", "hits -, expected 1:1")
def count_no_hit_of_a_paused_request(patch: pytest.MonkeyPatch) -> None:
    state = ChunkedScheduler.state

    def of_running(self: ChunkedScheduler) -> SchedulerState:
        seen = state(self)
        assert seen.chunked is not None
        paused, hits = seen.chunked
        shown = ChunkedState(paused, tuple([hit for hit in hits if hit[0] not in paused]))
        return seen._replace(chunked=shown)

    patch.setattr(ChunkedScheduler, "state", of_running)
