"""Mutations of the schedulers that are wrong only at the end of a block, or only next to whole blocks of padding."""

from typing import Any

import pytest

from engine.kv_cache.blocks import BLOCK_SIZE
from engine.kv_cache.shared_pool import SharedPool
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous import scheduler as continuous
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.scheduling.token_budget.sequence import BudgetSequence
from tests.harness.mutations.admission import reserve_unasked
from tests.harness.mutations.registry import budget_mutation, chunked_mutation, schedule_mutation

# --- continuous -----------------------------------------------------------------------------------------------------


@schedule_mutation("two-blocks-of-padding-are-removed-at-the-end-of-a-block", "tkv 129, expected 65")
def keep_one_of_several_blocks_of_padding_at_the_end_of_a_block(patch: pytest.MonkeyPatch) -> None:
    shift = ContinuousScheduler._shift

    def less(self: ContinuousScheduler, columns: int) -> None:
        keeps = columns <= -2 * BLOCK_SIZE and self._tkv % BLOCK_SIZE == 0
        shift(self, columns + BLOCK_SIZE if keeps else columns)

    patch.setattr(ContinuousScheduler, "_shift", less)


def has_a_block_of_padding(scheduler: ContinuousScheduler) -> bool:
    """Return whether a running sequence has a whole block of left padding."""
    return any(sequence.left_padding >= BLOCK_SIZE for sequence in scheduler._running)


def skip_next_to_padding(patch: pytest.MonkeyPatch, condition: str) -> None:
    """Skip a condition of admission while a running sequence has a whole block of padding.

    ``condition`` is the name of the function that checks the condition. It is replaced by one that returns True.
    """
    may_join, check = ContinuousScheduler._may_join, getattr(continuous, condition)

    def skipping(self: ContinuousScheduler, head: Any) -> bool:
        padded = has_a_block_of_padding(self)
        with pytest.MonkeyPatch.context() as only_here:
            only_here.setattr(continuous, condition, (lambda *_: True) if padded else check)
            return may_join(self, head)

    patch.setattr(ContinuousScheduler, "_may_join", skipping)


@schedule_mutation("a-block-of-padding-leaves-no-more-context", "step 3 is a prefill of 2, expected a decode of 0")
def let_any_request_join_next_to_padding_by_context(patch: pytest.MonkeyPatch) -> None:
    skip_next_to_padding(patch, "fits_context")


@schedule_mutation("a-block-of-padding-is-no-free-block", "is a prefill of 2, expected a decode of 1 0")
def let_any_request_join_next_to_padding_by_blocks(patch: pytest.MonkeyPatch) -> None:
    reserve_unasked(patch)
    skip_next_to_padding(patch, "fits_blocks")


@schedule_mutation("a-block-of-padding-counts-for-the-volume", "step 3 is a prefill of 2, expected a decode of 0")
def let_any_request_join_next_to_padding_by_batch_tkv(patch: pytest.MonkeyPatch) -> None:
    fits = ContinuousScheduler._fits_batch_tkv

    def skipping(self: ContinuousScheduler, *arguments: Any) -> bool:
        return has_a_block_of_padding(self) or fits(self, *arguments)

    patch.setattr(ContinuousScheduler, "_fits_batch_tkv", skipping)


# --- chunked --------------------------------------------------------------------------------------------------------


@chunked_mutation("the-queue-keeps-its-order-while-no-block-is-free", "waiting 2 1, expected 1 2")
def put_new_requests_first_while_no_block_is_unreserved(patch: pytest.MonkeyPatch) -> None:
    add = ChunkedScheduler.add

    def first(self: ChunkedScheduler, *arguments: Any) -> None:
        add(self, *arguments)
        if not self.pool.unreserved:
            self._waiting.rotate(1)

    patch.setattr(ChunkedScheduler, "add", first)


@chunked_mutation(
    "none-starts-during-a-pause-at-the-end-of-a-block", "step 4 is a prefill of 2, expected a decode of 0"
)
def prefill_during_a_pause_at_the_end_of_a_block(patch: pytest.MonkeyPatch) -> None:
    may_interleave = ChunkedScheduler._may_interleave
    patch.setattr(
        ChunkedScheduler,
        "_may_interleave",
        lambda self: may_interleave(self) or bool(self._paused and self._tkv % BLOCK_SIZE == 0),
    )


@chunked_mutation("a-chunk-that-ends-at-a-block-is-followed-by-a-decode", "running 1 0, expected 0 1")
def leave_the_prefilling_request_in_front_after_whole_blocks(patch: pytest.MonkeyPatch) -> None:
    next_chunk = ChunkedScheduler._next_chunk

    def in_front(self: ChunkedScheduler) -> Any:
        at_the_end = self._tkv % BLOCK_SIZE == 0
        chunk = next_chunk(self)
        if chunk is None and at_the_end and self._prefilling is not None:
            self._running.remove(self._prefilling)
            self._running.insert(0, self._prefilling)
        return chunk

    patch.setattr(ChunkedScheduler, "_next_chunk", in_front)


@chunked_mutation("with-chunks-of-a-block-the-prefill-stays-in-front", "running 0 1, expected 1 0")
def put_the_prefilling_request_second_with_chunks_of_a_block(patch: pytest.MonkeyPatch) -> None:
    next_chunk = ChunkedScheduler._next_chunk

    def second(self: ChunkedScheduler) -> Any:
        current = self._prefilling
        chunk = next_chunk(self)
        if chunk is not None and current is not None and self.chunking.chunk_size == BLOCK_SIZE:
            self._running.remove(current)
            self._running.insert(1, current)
        return chunk

    patch.setattr(ChunkedScheduler, "_next_chunk", second)


# --- token budget ---------------------------------------------------------------------------------------------------


@budget_mutation("a-chunk-of-more-than-a-block-preempts-the-last", "step 2")
def preempt_the_request_itself_for_more_than_a_block(patch: pytest.MonkeyPatch) -> None:
    make_room = TokenBudgetScheduler._make_room

    def own(self: TokenBudgetScheduler, sequence: BudgetSequence, tokens: int, draft: Any) -> bool:
        if tokens > BLOCK_SIZE and self._lacks_blocks(sequence, tokens):
            self._preempt(sequence)
            draft.preempted.append(sequence.request_id)
            return False
        return make_room(self, sequence, tokens, draft)

    patch.setattr(TokenBudgetScheduler, "_make_room", own)


@budget_mutation("recomputed-blocks-are-found-again", "hits -, expected 2:64")
def register_no_block_that_is_computed_again(patch: pytest.MonkeyPatch) -> None:
    register = TokenBudgetScheduler._register

    def once(self: TokenBudgetScheduler, sequence: BudgetSequence, blocks: tuple[int, ...]) -> None:
        registered = self.__dict__.setdefault("registered", {})
        sequence.shareable = max(sequence.shareable, registered.get(sequence.request_id, 0))
        if sequence.computed // sequence.block_size > sequence.shareable:
            register(self, sequence, blocks)
        registered[sequence.request_id] = sequence.shareable

    patch.setattr(TokenBudgetScheduler, "_register", once)


# --- equal blocks ---------------------------------------------------------------------------------------------------


@chunked_mutation("the-older-of-two-blocks-alike-is-lost-and-the-other-is-held", "hits 1:1 3:1, expected 1:1 3:2")
def register_only_one_of_equal_blocks_of_chunks(patch: pytest.MonkeyPatch) -> None:
    register_only_one(patch)


@budget_mutation("the-older-of-two-equal-blocks-is-lost-and-the-other-is-held", "hits -, expected 3:64")
def register_only_one_of_equal_blocks(patch: pytest.MonkeyPatch) -> None:
    register_only_one(patch)


def register_only_one(patch: pytest.MonkeyPatch) -> None:
    """Do not register a block in the prefix cache if another block with the same content is registered."""
    name = SharedPool.name

    def only_new(self: SharedPool, block: int, key: Any) -> None:
        if not self.find([key]):
            name(self, block, key)

    patch.setattr(SharedPool, "name", only_new)
