"""Mutations of what the scheduler keeps from one admission to the next.

It keeps the reservations of sequences that have just ended, and refusals because of the batch × tkv limit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.request import Request
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous.admission import Candidate, Running
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from engine.sequence import SequenceState
from tests.harness.mutations.registry import chunked_mutation, output_mutation, schedule_mutation


@schedule_mutation("blocks-come-back-a-step-after-the-end", "freed after this step's admission")
def free_what_finished_before_admission(patch: pytest.MonkeyPatch) -> None:
    free_first(patch)


@schedule_mutation("abort-makes-room-in-the-blocks", "freed after this step's admission")
def free_what_was_aborted_before_admission(patch: pytest.MonkeyPatch) -> None:
    free_first(patch)


@schedule_mutation("blocks-of-a-single-token-request-come-back-a-step-later", "freed after this step's admission")
def free_what_finished_at_its_prefill_before_admission(patch: pytest.MonkeyPatch) -> None:
    free_first(patch)


def free_first(patch: pytest.MonkeyPatch) -> None:
    plan = ContinuousScheduler.plan

    def freeing(self: ContinuousScheduler) -> Any:
        self._free_ended()
        return plan(self)

    patch.setattr(ContinuousScheduler, "plan", freeing)


@schedule_mutation("blocks-of-two-that-end-together-come-back-together", "reserved 4, expected 2")
def free_one_of_those_that_ended_a_step(patch: pytest.MonkeyPatch) -> None:
    def free_one(self: ContinuousScheduler) -> None:
        self.pool.free(self._ended.pop(0).request_id)

    patch.setattr(ContinuousScheduler, "_free_ended", free_one)


@schedule_mutation("an-empty-batch-does-not-wait-for-blocks", "expected a prefill of 1")
def wait_for_blocks_where_nothing_runs(patch: pytest.MonkeyPatch) -> None:
    wait_while_blocks_are_counted(patch)


@schedule_mutation("abort-of-all-that-run-lets-the-head-in-immediately", "expected a prefill of 1")
def wait_for_blocks_of_what_was_aborted_where_nothing_runs(patch: pytest.MonkeyPatch) -> None:
    wait_while_blocks_are_counted(patch)


def wait_while_blocks_are_counted(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join
    patch.setattr(ContinuousScheduler, "_may_join", lambda self, head: not self._ended and may_join(self, head))


@schedule_mutation("a-volume-that-was-too-large-is-counted-anew", "refused until the batch changes")
def check_the_limit_again_in_every_step(patch: pytest.MonkeyPatch) -> None:
    before_the_limit(patch, lambda self, request_id, tkv: forget(self))


@schedule_mutation("a-refusal-holds-at-larger-tkv-only", "expected a prefill of 1")
def remember_a_refusal_at_every_tkv(patch: pytest.MonkeyPatch) -> None:
    before_the_limit(patch, lambda self, request_id, tkv: change_refusal(self, tkv=0))


@schedule_mutation("a-refusal-is-for-one-request", "expected a prefill of 2")
def remember_a_refusal_for_whichever_request_is_next(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def keeping(self: ContinuousScheduler, request_id: str) -> bool:
        refusal = self._refusal
        aborted = abort(self, request_id)
        self._refusal = refusal
        return aborted

    patch.setattr(ContinuousScheduler, "abort", keeping)
    before_the_limit(patch, lambda self, request_id, tkv: change_refusal(self, request_id=request_id))


@schedule_mutation("a-refusal-is-for-one-batch", "expected a prefill of 2")
def remember_a_refusal_when_the_batch_has_changed(patch: pytest.MonkeyPatch) -> None:
    before_the_limit(patch, lambda self, request_id, tkv: change_refusal(self, running=self._kept_running))


@schedule_mutation("what-the-context-refused-is-not-remembered", "expected a prefill of 1")
def look_at_the_limit_before_the_context(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def limit_first(self: ContinuousScheduler, head: ScheduledSequence) -> bool:
        if self._running:
            running = [Running(s.prompt_length, s.max_tokens, self._tkv - s.left_padding) for s in self._running]
            self._fits_batch_tkv(head.request_id, Candidate(head.prompt_length, head.max_tokens), running)
        return may_join(self, head)

    patch.setattr(ContinuousScheduler, "_may_join", limit_first)


@schedule_mutation("a-refusal-holds-when-one-behind-is-aborted", "refused until the batch changes")
def forget_a_refusal_at_any_abort_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def forgetting(self: ContinuousScheduler, request_id: str) -> bool:
        if any(sequence.request_id == request_id for sequence in self._waiting):
            forget(self)
        return abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", forgetting)


def forget(scheduler: ContinuousScheduler) -> None:
    change_refusal(scheduler, request_id="")


def change_refusal(scheduler: ContinuousScheduler, **changes: Any) -> None:
    if scheduler._refusal.request_id:
        scheduler._refusal = scheduler._refusal._replace(**changes)


def before_the_limit(patch: pytest.MonkeyPatch, change: Callable[[ContinuousScheduler, str, int], None]) -> None:
    """Call ``change(scheduler, request_id, tkv)`` directly before the batch × tkv limit is checked for a request.

    ``change`` may modify which refusal the scheduler remembers.
    """
    fits = ContinuousScheduler._fits_batch_tkv

    def changed(self: ContinuousScheduler, request_id: str, new: Candidate, running: Sequence[Running]) -> bool:
        change(self, request_id, self._tkv)
        return fits(self, request_id, new, running)

    patch.setattr(ContinuousScheduler, "_fits_batch_tkv", changed)


def end_at(patch: pytest.MonkeyPatch, context: Callable[[Request, int], int]) -> None:
    """End requests at a length of ``context(request, max_model_len)`` tokens, instead of ``max_model_len`` tokens."""
    made = SequenceState.__init__

    def changed(self: SequenceState, request: Request, eos: Any, decode: Any, max_model_len: int) -> None:
        made(self, request, eos, decode, context(request, max_model_len))

    patch.setattr(SequenceState, "__init__", changed)


@schedule_mutation(
    "running-sequences-are-not-asked-where-tkv-does-not-grow", "its prompt of 60 tokens leaves room for 68"
)
def run_past_the_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: 10_000)


@schedule_mutation("sequences-end-where-they-fill-the-context", "its prompt of 62 tokens leaves room for 2")
def run_one_token_past_the_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: max_model_len + 1)


@schedule_mutation("single-token-just-fits-the-context", "finished with 12 of 13 tokens")
def end_one_token_before_the_context_is_full(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: max_model_len - 1)


@schedule_mutation("running-sequences-are-not-asked-where-tkv-does-not-grow", "finished with 64 of 68 tokens")
def end_where_the_padded_prompt_fills_the_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: max_model_len - -len(request.prompt_token_ids) % 64)


@chunked_mutation("an-answer-that-fills-the-context", "its prompt of 60 tokens leaves room for 68")
def run_a_chunked_request_past_the_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: 10_000)


@chunked_mutation("prompts-that-fill-the-context", "its prompt of 126 tokens leaves room for 2")
def run_a_chunked_request_one_token_past_the_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: max_model_len + 1)


@output_mutation("min-tokens-end-with-the-context", "its prompt of 60 tokens leaves room for 68")
def let_min_tokens_hold_off_a_full_context(patch: pytest.MonkeyPatch) -> None:
    end_at(patch, lambda request, max_model_len: max_model_len + request.sampling_params.min_tokens)


@schedule_mutation("abort-of-the-only-request-before-it-runs", "step 1 is missing")
def run_no_step_after_an_abort_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    forget_aborts_in_the_queue(patch, ContinuousScheduler)


@chunked_mutation("the-only-request-is-aborted-before-it-runs", "step 1 is missing")
def run_no_step_after_an_abort_in_the_chunked_queue(patch: pytest.MonkeyPatch) -> None:
    forget_aborts_in_the_queue(patch, ChunkedScheduler)


def forget_aborts_in_the_queue(patch: pytest.MonkeyPatch, scheduler: type[Any]) -> None:
    patch.setattr(scheduler, "_aborted_in_queue", property(lambda self: False, lambda self, value: None), raising=False)
