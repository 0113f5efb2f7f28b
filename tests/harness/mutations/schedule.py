"""Mutations of the continuous scheduler, and of its counts of blocks."""

from typing import Any

import pytest

from engine.kv_cache.block_pool import BlockPool
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling import padding
from engine.scheduling.continuous import admission
from engine.scheduling.continuous import scheduler as continuous
from engine.scheduling.continuous.admission import Candidate, Running
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from engine.scheduling.plan import Idle
from engine.sequence import SequenceState
from tests.harness.mutations.registry import schedule_mutation


@schedule_mutation("new-sequence-joins-during-decode", "reserved 3, expected 2")
def reserve_one_block_too_many(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_reserved", lambda *a: padding.blocks_reserved(*a) + 1)


@schedule_mutation("new-sequence-joins-during-decode", "reserved 1, expected 2")
def reserve_one_block_too_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_reserved", lambda *a: padding.blocks_reserved(*a) - 1)


@schedule_mutation("last-token-needs-no-block", "reserved 3, expected 2")
def reserve_as_if_the_last_token_were_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_reserved", lambda t, n, m: padding.blocks_reserved(t, n, m + 1))


@schedule_mutation("new-sequence-joins-during-decode", "reserved 5, expected 3")
def forget_to_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ContinuousScheduler, "_free_ended", lambda self: self._ended.clear())


@schedule_mutation("two-sequences-finish-as-a-new-one-arrives", "step 5 differs")
def free_in_the_step_that_finishes(patch: pytest.MonkeyPatch) -> None:
    commit = ContinuousScheduler.commit

    def early(self: ContinuousScheduler, ended: Any) -> None:
        commit(self, ended)
        self._free_ended()

    patch.setattr(ContinuousScheduler, "commit", early)


@schedule_mutation("two-sequences-finish-as-a-new-one-arrives", "running is newest first")
def new_sequence_last_in_running(patch: pytest.MonkeyPatch) -> None:
    prefill = ContinuousScheduler._prefill

    def last(self: ContinuousScheduler, sequence: Any) -> Any:
        plan = prefill(self, sequence)
        self._running.append(self._running.pop(0))
        self._list_running()
        return plan

    patch.setattr(ContinuousScheduler, "_prefill", last)


@schedule_mutation("a-small-request-waits-behind-a-large-one", "strict first in, first out")
def let_a_later_request_overtake(patch: pytest.MonkeyPatch) -> None:
    plan = ContinuousScheduler.plan

    def overtake(self: ContinuousScheduler) -> Any:
        self._free_ended()
        fitting = next((s for s in self._waiting if self._may_join(s)), None)
        if fitting is not None:
            self._waiting.remove(fitting)
            self._waiting.appendleft(fitting)
            self._kept_waiting = None
        return plan(self)

    patch.setattr(ContinuousScheduler, "plan", overtake)


@schedule_mutation("requests-use-all-available-blocks", "waiting")
def serve_the_newest_request_first(patch: pytest.MonkeyPatch) -> None:
    plan = ContinuousScheduler.plan

    def newest(self: ContinuousScheduler) -> Any:
        self._waiting.rotate(1)
        self._kept_waiting = None
        planned = plan(self)
        if isinstance(planned, Idle) or planned.request_ids[0] in {s.request_id for s in self._running[1:]}:
            self._waiting.rotate(-1)
        return planned

    patch.setattr(ContinuousScheduler, "plan", newest)


@schedule_mutation("requests-use-all-available-blocks", "expected a prefill")
def decode_before_prefill(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ContinuousScheduler, "_may_join", lambda self, sequence: not self._running)


@schedule_mutation("prompts-aligned-with-tkv-boundaries", "step 70 differs")
def never_remove_padding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ContinuousScheduler, "_remove_padding", lambda self: None)


@schedule_mutation("prompts-aligned-with-tkv-boundaries", "tkv")
def remove_padding_token_by_token(patch: pytest.MonkeyPatch) -> None:
    def remove(self: ContinuousScheduler) -> None:
        self._shift(-min(self._rows().left_paddings, default=0))

    patch.setattr(ContinuousScheduler, "_remove_padding", remove)


@schedule_mutation("two-blocks-of-padding-go-at-once", "expected 67")
def remove_at_most_one_block_of_padding(patch: pytest.MonkeyPatch) -> None:
    def remove(self: ContinuousScheduler) -> None:
        if min(self._rows().left_paddings, default=0) >= BLOCK_SIZE:
            self._shift(-BLOCK_SIZE)

    patch.setattr(ContinuousScheduler, "_remove_padding", remove)


@schedule_mutation("the-least-padding-decides", "tkv 65, expected 193")
def remove_padding_of_the_oldest_only(patch: pytest.MonkeyPatch) -> None:
    def remove(self: ContinuousScheduler) -> None:
        if self._running:
            self._shift(-(self._running[-1].left_padding // BLOCK_SIZE * BLOCK_SIZE))

    patch.setattr(ContinuousScheduler, "_remove_padding", remove)


@schedule_mutation("prompt-longer-than-the-current-tkv", "tkv 70, expected 128")
def grow_tkv_to_the_length_of_the_prompt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "tkv_with_prompt", max)
    patch.setattr(admission, "tkv_with_prompt", max)


@schedule_mutation("prompt-longer-than-the-current-tkv", "expected a prefill")
def let_longer_prompts_wait(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join
    patch.setattr(
        ContinuousScheduler,
        "_may_join",
        lambda self, s: may_join(self, s) and (not self._running or s.prompt_length <= self._tkv),
    )


@schedule_mutation("new-sequence-joins-during-decode", "tkv 65, expected 64")
def let_prefill_advance_tkv(patch: pytest.MonkeyPatch) -> None:
    prefill = ContinuousScheduler._prefill

    def advance(self: ContinuousScheduler, sequence: Any) -> Any:
        plan = prefill(self, sequence)
        self._tkv += 1
        return plan

    patch.setattr(ContinuousScheduler, "_prefill", advance)


@schedule_mutation("requests-use-the-full-volume", "expected a prefill")
def batch_tkv_limit_one_too_strict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "largest_batch_tkv", lambda *a: admission.largest_batch_tkv(*a) + 1)


@schedule_mutation("requests-exceed-the-volume-by-one", "expected a decode")
def batch_tkv_limit_one_too_lax(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "largest_batch_tkv", lambda *a: admission.largest_batch_tkv(*a) - 1)


@schedule_mutation("new-one-ends-last-as-the-batch-shrinks", "batch x tkv limit allow it")
def batch_tkv_as_if_no_request_left_before_the_new_one(patch: pytest.MonkeyPatch) -> None:
    def all_stay(new: Candidate, running: list[Running], tkv: int) -> int:
        return (len(running) + 1) * (padding.tkv_with_prompt(tkv, new.prompt_length) + new.max_tokens - 1)

    patch.setattr(continuous, "largest_batch_tkv", all_stay)


@schedule_mutation("requests-exceed-the-volume-by-one", "expected a decode")
def batch_tkv_of_the_batch_before_the_new_one(patch: pytest.MonkeyPatch) -> None:
    def without(new: Candidate, running: list[Running], tkv: int) -> int:
        return admission.largest_batch_tkv(new, running[1:], tkv)

    patch.setattr(continuous, "largest_batch_tkv", without)


@schedule_mutation("first-to-end-is-one-over-the-volume", "expected a decode")
def batch_tkv_of_the_end_only(patch: pytest.MonkeyPatch) -> None:
    def end(new: Candidate, running: list[Running], tkv: int) -> int:
        last = padding.tkv_with_prompt(tkv, new.prompt_length) + new.max_tokens - 1
        longer = sum(padding.tkv_with_prompt(tkv, new.prompt_length) + s.remaining - 1 >= last for s in running)
        return (longer + 1) * last

    patch.setattr(continuous, "largest_batch_tkv", end)


@schedule_mutation("an-earlier-peak-counts-where-the-end-would-fit", "3 x 65 = 195 exceeds 132")
def batch_tkv_forgets_an_earlier_peak(patch: pytest.MonkeyPatch) -> None:
    def only_the_end(new: Candidate, running: list[Running], tkv: int) -> int:
        grown = padding.tkv_with_prompt(tkv, new.prompt_length)
        last = grown + new.max_tokens - 1
        longer = sum(grown + sequence.remaining - 1 >= last for sequence in running)
        return (longer + 1) * last if longer else admission.largest_batch_tkv(new, running, tkv)

    patch.setattr(continuous, "largest_batch_tkv", only_the_end)


@schedule_mutation("running-sequences-are-not-asked-where-tkv-does-not-grow", "expected a prefill")
def check_running_sequences_also_where_tkv_stays(patch: pytest.MonkeyPatch) -> None:
    def always(new: Candidate, running: list[Running], tkv: int, most: int) -> bool:
        room = most - padding.tkv_with_prompt(tkv, new.prompt_length)
        return new.max_tokens <= room and all(sequence.remaining <= room for sequence in running)

    patch.setattr(continuous, "fits_context", always)


@schedule_mutation("new-one-may-go-beyond-the-volume-once-it-is-alone", "expected a prefill")
def batch_tkv_of_the_new_one_alone(patch: pytest.MonkeyPatch) -> None:
    def alone_too(new: Candidate, running: list[Running], tkv: int) -> int:
        last = padding.tkv_with_prompt(tkv, new.prompt_length) + new.max_tokens - 1
        return max(last, admission.largest_batch_tkv(new, running, tkv))

    patch.setattr(continuous, "largest_batch_tkv", alone_too)


@schedule_mutation("requests-need-more-than-the-available-blocks", "expected a decode")
def count_used_blocks_instead_of_reserved_ones(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BlockPool, "unreserved", property(lambda self: self.available - self.used_total))


@schedule_mutation("padding-that-is-cut-is-not-reserved", "expected a prefill")
def keep_one_block_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_blocks", lambda new, tkv, free: admission.fits_blocks(new, tkv, free - 1))


@schedule_mutation("grown-tkv-would-push-a-running-sequence-too-far", "expected a decode")
def ignore_running_sequences_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_context", lambda new, _, tkv, most: admission.fits_context(new, [], tkv, most))


@schedule_mutation("requested-tokens-do-not-fit-the-remaining-context", "expected a decode")
def ignore_the_context_of_the_new_sequence(patch: pytest.MonkeyPatch) -> None:
    def others_only(new: Candidate, running: list[Running], tkv: int, most: int) -> bool:
        return admission.fits_context(new._replace(max_tokens=0), running, tkv, most)

    patch.setattr(continuous, "fits_context", others_only)


@schedule_mutation("joiner-fits-the-context-exactly", "expected a prefill")
def context_one_too_strict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_context", lambda *a: admission.fits_context(a[0], a[1], a[2], a[3] - 1))


@schedule_mutation("prompts-misaligned-with-tkv-boundaries", "expected a decode")
def batch_one_too_large(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def lax(self: ContinuousScheduler, sequence: Any) -> bool:
        running, self._running = self._running, self._running[:-1]
        try:
            return may_join(self, sequence)
        finally:
            self._running = running

    patch.setattr(ContinuousScheduler, "_may_join", lax)


@schedule_mutation("new-sequence-joins-during-decode", "used")
def keep_blocks_that_are_all_padding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_used", lambda tkv, tokens: blocks_for(tkv))
    patch.setattr(continuous, "blocks_reserved", lambda t, n, m: blocks_for(t + m - 1))


@schedule_mutation("new-sequence-joins-during-decode", "tkv 130, expected 0")
def leave_tkv_where_it_was_when_idle(patch: pytest.MonkeyPatch) -> None:
    plan = ContinuousScheduler.plan

    def keep(self: ContinuousScheduler) -> Any:
        before = self._tkv
        planned = plan(self)
        if isinstance(planned, Idle):
            self._tkv = before
        return planned

    patch.setattr(ContinuousScheduler, "plan", keep)
    patch.setattr(ContinuousScheduler, "has_work", property(lambda self: bool(self._running or self._ended)))


@schedule_mutation("two-sequences-finish-as-a-new-one-arrives", "step 9 is missing")
def stop_without_the_last_empty_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ContinuousScheduler, "has_work", property(lambda self: bool(self._waiting or self._running)))


@schedule_mutation("admission-looks-at-tkv-before-padding-goes", "expected a decode")
def admit_after_padding_was_removed(patch: pytest.MonkeyPatch) -> None:
    plan = ContinuousScheduler.plan

    def remove_first(self: ContinuousScheduler) -> Any:
        self._remove_padding()
        return plan(self)

    patch.setattr(ContinuousScheduler, "plan", remove_first)


@schedule_mutation("two-sequences-finish-as-a-new-one-arrives", "finished")
def finish_one_token_late(patch: pytest.MonkeyPatch) -> None:
    append = SequenceState.append

    def late(self: SequenceState, token: Any) -> bool:
        append(self, token)
        return len(self.tokens) > self.request.max_tokens

    patch.setattr(SequenceState, "append", late)


@schedule_mutation("new-sequence-joins-during-decode", "used")
def take_the_next_block_one_token_early(patch: pytest.MonkeyPatch) -> None:
    decode = ContinuousScheduler._decode

    def early(self: ContinuousScheduler) -> Any:
        plan = decode(self)
        if (self._tkv + 1) % BLOCK_SIZE == 0:
            self._take_blocks()
        return plan

    patch.setattr(ContinuousScheduler, "_decode", early)


@schedule_mutation("abort-the-newest-while-it-runs", "step 5 differs")
def free_an_aborted_sequence_immediately(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def at_once(self: ContinuousScheduler, request_id: str) -> bool:
        done = abort(self, request_id)
        self._free_ended()
        return done

    patch.setattr(ContinuousScheduler, "abort", at_once)


@schedule_mutation("abort-the-head-of-the-queue", "step 3 differs")
def abort_only_what_runs(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def running_only(self: ContinuousScheduler, request_id: str) -> bool:
        waits = any(sequence.request_id == request_id for sequence in self._waiting)
        return False if waits else abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", running_only)


@schedule_mutation("abort-the-only-one", "step 4 differs")
def abort_only_what_waits(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def waiting_only(self: ContinuousScheduler, request_id: str) -> bool:
        runs = any(sequence.request_id == request_id for sequence in self._running)
        return False if runs else abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", waiting_only)
