"""Mutations that violate one condition of admission in one situation only, such as when a prompt increases tkv."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from engine.kv_cache.block_pool import BlockPool
from engine.kv_cache.blocks import round_up_to_block
from engine.scheduling import padding
from engine.scheduling.continuous import admission
from engine.scheduling.continuous import scheduler as continuous
from engine.scheduling.continuous.admission import Candidate, Running
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from tests.harness.mutations.registry import schedule_mutation


def grows(new: Candidate, tkv: int) -> bool:
    return padding.tkv_with_prompt(tkv, new.prompt_length) != tkv


def reserve_unasked(patch: pytest.MonkeyPatch) -> None:
    """Make the block pool reserve blocks even if there are not enough, so that only admission checks their number."""

    def reserve(self: BlockPool, holder: str, blocks: int) -> None:
        self._reserved[holder], self._held[holder] = blocks, []
        self.reserved_total += blocks

    patch.setattr(BlockPool, "reserve", reserve)


def let_overtake_where(patch: pytest.MonkeyPatch, lacking: str) -> None:
    """Admit the second request in the queue before the first, if only the resource ``lacking`` delays the first.

    ``lacking`` is ``context``, ``blocks`` or ``batch_tkv``.
    """
    plan = ContinuousScheduler.plan

    def lacks_only(self: ContinuousScheduler, head: ScheduledSequence) -> bool:
        new = Candidate(head.prompt_length, head.max_tokens)
        running = [Running(s.prompt_length, s.max_tokens, self._tkv - s.left_padding) for s in self._running]
        lacks = {
            "context": not admission.fits_context(new, running, self._tkv, self.limits.max_model_len),
            "blocks": not admission.fits_blocks(new, self._tkv, self.pool.unreserved),
            "batch_tkv": admission.largest_batch_tkv(new, running, self._tkv) > self.limits.max_batch_tkv_limit,
        }
        return len(running) < self.limits.max_num_seqs and [name for name in lacks if lacks[name]] == [lacking]

    def overtake(self: ContinuousScheduler) -> Any:
        self._free_ended()
        waiting = self._waiting
        if len(waiting) > 1 and self._running and lacks_only(self, waiting[0]) and self._may_join(waiting[1]):
            self._waiting = deque([waiting[1], waiting[0], *list(waiting)[2:]])
            self._kept_waiting = None
        return plan(self)

    patch.setattr(ContinuousScheduler, "plan", overtake)


@schedule_mutation("head-lacks-context-and-nobody-overtakes", "strict first in, first out")
def overtake_a_head_that_lacks_context(patch: pytest.MonkeyPatch) -> None:
    let_overtake_where(patch, "context")


@schedule_mutation("head-lacks-volume-and-nobody-overtakes", "strict first in, first out")
def overtake_a_head_that_lacks_batch_tkv(patch: pytest.MonkeyPatch) -> None:
    let_overtake_where(patch, "batch_tkv")


@schedule_mutation("head-lacks-blocks-and-nobody-overtakes", "strict first in, first out")
def overtake_a_head_that_lacks_blocks(patch: pytest.MonkeyPatch) -> None:
    let_overtake_where(patch, "blocks")


@schedule_mutation("grown-context-is-one-short-for-the-joiner", "expected a decode")
def context_of_the_new_one_only_where_tkv_stays(patch: pytest.MonkeyPatch) -> None:
    def lax(new: Candidate, running: Sequence[Running], tkv: int, most: int) -> bool:
        return admission.fits_context(new._replace(max_tokens=0) if grows(new, tkv) else new, running, tkv, most)

    patch.setattr(continuous, "fits_context", lax)


@schedule_mutation("grown-context-is-one-short-for-the-joiner", "29 left at tkv 130, grown from 66")
def context_of_the_new_one_at_tkv_before_it_grew(patch: pytest.MonkeyPatch) -> None:
    def before(new: Candidate, running: Sequence[Running], tkv: int, most: int) -> bool:
        others = admission.fits_context(new._replace(max_tokens=0), running, tkv, most)
        return others and new.max_tokens <= most - tkv

    patch.setattr(continuous, "fits_context", before)


@schedule_mutation("three-run-and-the-joiner-is-one-token-too-long", "50 tokens requested, 49 left at tkv 66")
def context_one_too_lax_where_three_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        continuous, "fits_context", lambda new, r, tkv, most: admission.fits_context(new, r, tkv, most + (len(r) > 2))
    )


@schedule_mutation("newest-of-three-is-one-short-after-growth", "sequence 2 needs 58 tokens, 57 left")
def check_only_the_oldest_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_context", lambda new, r, *rest: admission.fits_context(new, r[-1:], *rest))


@schedule_mutation("oldest-of-three-is-one-short-after-growth", "sequence 0 needs 58 tokens, 57 left")
def check_only_the_two_newest_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_context", lambda new, r, *rest: admission.fits_context(new, r[:2], *rest))


@schedule_mutation("running-one-just-fits-a-growth-of-one-block", "expected a prefill")
def require_all_max_tokens_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Running, "remaining", property(lambda self: self.max_tokens))


@schedule_mutation("older-of-two-beyond-the-context-is-not-asked-without-growth", "expected a prefill")
def check_two_running_sequences_also_where_tkv_stays(patch: pytest.MonkeyPatch) -> None:
    def always(new: Candidate, running: Sequence[Running], tkv: int, most: int) -> bool:
        room = most - padding.tkv_with_prompt(tkv, new.prompt_length)
        asked = running if len(running) == 2 else ()
        fits = admission.fits_context(new, running, tkv, most)
        return fits and all(sequence.remaining <= room for sequence in asked)

    patch.setattr(continuous, "fits_context", always)


@schedule_mutation("grown-reservation-goes-one-token-beyond", "4 needed, 3 of 5 not reserved")
def blocks_only_where_tkv_stays(patch: pytest.MonkeyPatch) -> None:
    reserve_unasked(patch)
    patch.setattr(
        continuous, "fits_blocks", lambda new, tkv, free: grows(new, tkv) or admission.fits_blocks(new, tkv, free)
    )


@schedule_mutation("three-run-and-a-grown-reservation-goes-one-token-beyond", "5 needed, 4 of 10 not reserved")
def blocks_one_too_lax_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    reserve_unasked(patch)
    patch.setattr(
        continuous, "fits_blocks", lambda new, tkv, free: admission.fits_blocks(new, tkv, free + grows(new, tkv))
    )


@schedule_mutation("grown-reservation-ends-with-a-block", "expected a prefill")
def blocks_one_token_too_strict_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    def strict(new: Candidate, tkv: int, free: int) -> bool:
        return admission.fits_blocks(new._replace(max_tokens=new.max_tokens + grows(new, tkv)), tkv, free)

    patch.setattr(continuous, "fits_blocks", strict)


@schedule_mutation("below-a-block-a-reservation-goes-one-token-beyond", "3 needed, 2 of 3 not reserved")
def blocks_one_too_lax_below_a_block(patch: pytest.MonkeyPatch) -> None:
    reserve_unasked(patch)
    patch.setattr(continuous, "fits_blocks", lambda new, tkv, free: admission.fits_blocks(new, tkv, free + (tkv < 64)))


@schedule_mutation("three-run-and-the-joiner-is-beyond-the-volume", "4 x 83 = 332 exceeds 331")
def batch_tkv_of_small_batches_only(patch: pytest.MonkeyPatch) -> None:
    def small(new: Candidate, running: Sequence[Running], tkv: int) -> int:
        return 0 if len(running) > 2 else admission.largest_batch_tkv(new, running, tkv)

    patch.setattr(continuous, "largest_batch_tkv", small)


@schedule_mutation("sequences-count-until-they-end-in-the-order-of-their-ends", "expected a prefill of 2")
def batch_tkv_in_the_order_in_which_sequences_joined(patch: pytest.MonkeyPatch) -> None:
    def oldest_first(new: Candidate, running: Sequence[Running], tkv: int) -> int:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(admission, "sorted", lambda ends: ends[::-1], raising=False)
            return admission.largest_batch_tkv(new, running, tkv)

    patch.setattr(continuous, "largest_batch_tkv", oldest_first)


@schedule_mutation("third-to-end-decides-beyond-the-volume", "2 x 183 = 366 exceeds 365")
def batch_tkv_of_the_first_two_to_end(patch: pytest.MonkeyPatch) -> None:
    def two(new: Candidate, running: Sequence[Running], tkv: int) -> int:
        first = sorted(running, key=lambda sequence: sequence.remaining)[:2]
        largest, size = 0, len(running) + 1
        grown = padding.tkv_with_prompt(tkv, new.prompt_length)
        for sequence in first:
            largest = max(largest, size * min(grown + sequence.remaining - 1, grown + new.max_tokens - 1))
            size -= 1
        return largest

    patch.setattr(continuous, "largest_batch_tkv", two)


@schedule_mutation("two-that-end-together-count-no-more-after-their-end", "expected a prefill")
def count_those_that_end_together_as_one(patch: pytest.MonkeyPatch) -> None:
    """In the check of batch × tkv, assume that the batch shrinks by only one if several sequences end in the same step.

    For later steps, the check therefore uses a batch size that is too large.
    """

    def distinct(new: Candidate, running: Sequence[Running], tkv: int) -> int:
        grown = padding.tkv_with_prompt(tkv, new.prompt_length)
        last, size, largest = grown + new.max_tokens - 1, len(running) + 1, 0
        for end in sorted({grown + sequence.remaining - 1 for sequence in running}):
            largest = max(largest, size * min(end, last))
            if last <= end:
                break
            size -= 1
        return largest

    patch.setattr(continuous, "largest_batch_tkv", distinct)


@schedule_mutation("growth-and-the-joiner-ends-first-beyond-the-volume", "2 x 134 = 268 exceeds 267")
def batch_tkv_at_tkv_before_it_grew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        continuous,
        "largest_batch_tkv",
        lambda new, running, tkv: admission.largest_batch_tkv(new._replace(prompt_length=1), running, tkv),
    )


@schedule_mutation("full-batch-keeps-out-even-a-single-token", "batch: 2 of 2")
def let_a_single_token_join_a_full_batch(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def lax(self: ContinuousScheduler, sequence: ScheduledSequence) -> bool:
        limits = self.limits
        self.limits = limits.__class__(
            **vars(limits) | {"max_num_seqs": limits.max_num_seqs + (sequence.max_tokens == 1)}
        )
        try:
            return may_join(self, sequence)
        finally:
            self.limits = limits

    patch.setattr(ContinuousScheduler, "_may_join", lax)


@schedule_mutation("abort-the-last-of-four-that-wait", "step 3 differs")
def abort_only_the_first_two_that_wait(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def near(self: ContinuousScheduler, request_id: str) -> bool:
        far = any(sequence.request_id == request_id for sequence in list(self._waiting)[2:])
        return False if far else abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", near)


@schedule_mutation("abort-the-oldest-of-three-that-run", "step 6 differs")
def abort_only_the_two_newest_that_run(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def near(self: ContinuousScheduler, request_id: str) -> bool:
        far = any(sequence.request_id == request_id for sequence in self._running[2:])
        return False if far else abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", near)


@schedule_mutation("grows-from-tkv-63", "tkv 64, expected 127")
def grow_to_a_whole_block_from_below_one(patch: pytest.MonkeyPatch) -> None:
    def grown(tkv: int, length: int) -> int:
        return round_up_to_block(length) if tkv < length <= 64 else padding.tkv_with_prompt(tkv, length)

    patch.setattr(continuous, "tkv_with_prompt", grown)
    patch.setattr(admission, "tkv_with_prompt", grown)


@schedule_mutation("joins-at-tkv-1", "tkv 65, expected 1")
def keep_padding_in_the_step_of_a_prefill(patch: pytest.MonkeyPatch) -> None:
    remove = ContinuousScheduler._remove_padding
    plan = ContinuousScheduler.plan

    def planned(self: ContinuousScheduler) -> Any:
        self._free_ended()
        joins = bool(self._waiting) and self._may_join(self._waiting[0])
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(ContinuousScheduler, "_remove_padding", (lambda s: None) if joins else remove)
            return plan(self)

    patch.setattr(ContinuousScheduler, "plan", planned)


@schedule_mutation("requests-use-all-available-blocks", "holds the padding block")
def hand_out_block_0(patch: pytest.MonkeyPatch) -> None:
    made = BlockPool.__init__

    def from_zero(self: BlockPool, available: int) -> None:
        made(self, available)
        self._free = deque(range(available))

    patch.setattr(BlockPool, "__init__", from_zero)
