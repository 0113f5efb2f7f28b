"""Mutations of aborts with the schedulers ``continuous`` and ``chunked``.

Each is wrong only if the aborted request is in a certain state, or only after a certain kind of step.
"""

from collections.abc import Callable
from typing import Any

import pytest

from engine.kv_cache.prefix_pool import PrefixPool
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from engine.scheduling.plan import Idle
from tests.harness.mutations.registry import chunked_mutation, schedule_mutation

Scheduler = ContinuousScheduler | ChunkedScheduler


def abort_only(patch: pytest.MonkeyPatch, scheduler: type[Scheduler], where: Callable[[Any, str], bool]) -> None:
    """Make the scheduler ignore an abort if ``where(scheduler, request_id)`` is false."""
    abort = scheduler.abort
    patch.setattr(scheduler, "abort", lambda self, request: where(self, request) and abort(self, request))


def remember_plans(patch: pytest.MonkeyPatch, scheduler: type[Scheduler]) -> None:
    """Make a scheduler store the type name of its last plan in ``last``, and set ``aborts`` to 0 at each plan.

    Other patches use ``aborts`` to count the aborts since the last plan.
    """
    plan = scheduler.plan

    def remembering(self: Any) -> Any:
        made = plan(self)
        self.last, self.aborts = type(made).__name__, 0
        return made

    patch.setattr(scheduler, "plan", remembering)


# --- continuous -----------------------------------------------------------------------------------------------------


@schedule_mutation("aborted-in-the-step-that-finishes-it", "reserved 2, expected 4")
def free_immediately_what_is_aborted_as_it_finishes(patch: pytest.MonkeyPatch) -> None:
    free_the_finishing(patch)


@schedule_mutation("aborted-in-the-step-of-its-only-token", "reserved 2, expected 3")
def free_immediately_what_is_aborted_as_it_finishes_at_its_prefill(patch: pytest.MonkeyPatch) -> None:
    free_the_finishing(patch)


def free_the_finishing(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def freeing(self: ContinuousScheduler, request: str) -> bool:
        for sequence in [s for s in self._ended if s.request_id == request]:
            self._ended.remove(sequence)
            self.pool.free(request)
        return abort(self, request)

    patch.setattr(ContinuousScheduler, "abort", freeing)


@schedule_mutation("the-head-is-aborted-after-a-prefill-and-the-next-joins", "expected a prefill of 2")
def let_no_request_join_after_an_abort_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    pause_after_an_abort(patch)


@schedule_mutation("one-behind-the-head-is-aborted-and-the-head-joins", "expected a prefill of 1")
def let_the_head_wait_after_an_abort_behind_it(patch: pytest.MonkeyPatch) -> None:
    pause_after_an_abort(patch)


def pause_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join
    patch.setattr(
        ContinuousScheduler, "_may_join", lambda self, head: not self._aborted_in_queue and may_join(self, head)
    )


@schedule_mutation("a-head-that-lacks-context-is-aborted-and-the-next-joins", "expected a prefill of 2")
def let_no_request_join_after_a_decode_with_an_abort(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ContinuousScheduler)
    may_join = ContinuousScheduler._may_join

    def waiting(self: Any, head: Any) -> bool:
        return not (self._aborted_in_queue and self.last == "Decode") and may_join(self, head)

    patch.setattr(ContinuousScheduler, "_may_join", waiting)


@schedule_mutation("aborted-after-the-prefill-of-another", "were aborted and still wait or run")
def abort_nothing_that_runs_after_a_prefill(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ContinuousScheduler)
    abort_only(patch, ContinuousScheduler, lambda self, request: self.last != "Prefill")


@schedule_mutation("the-head-is-aborted-before-any-step", "step 0")
def abort_nothing_before_any_step(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ContinuousScheduler)
    abort_only(patch, ContinuousScheduler, lambda self, request: hasattr(self, "last"))


@schedule_mutation("aborted-after-an-empty-step", "step 3")
def abort_nothing_after_an_empty_step(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ContinuousScheduler)
    abort_only(patch, ContinuousScheduler, lambda self, request: self.last != Idle.__name__)


@schedule_mutation("all-that-run-are-aborted-in-one-step", "step 5")
def take_one_abort_of_a_running_one_a_step(patch: pytest.MonkeyPatch) -> None:
    take_one_abort_a_step(patch)


@schedule_mutation("the-whole-queue-is-aborted-while-one-runs", "step 3")
def take_one_abort_of_a_waiting_one_a_step(patch: pytest.MonkeyPatch) -> None:
    take_one_abort_a_step(patch)


def take_one_abort_a_step(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ContinuousScheduler)

    def first(self: Any, request: str) -> bool:
        self.aborts = getattr(self, "aborts", 0) + 1
        return bool(self.aborts == 1)

    abort_only(patch, ContinuousScheduler, first)


@schedule_mutation("one-that-ended-is-aborted-as-another-is-prefilled", "step 4")
def end_the_newest_where_the_aborted_one_has_ended(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def wrong(self: ContinuousScheduler, request: str) -> bool:
        if abort(self, request):
            return True
        if self._running:
            self._end(self._running[0])
        return False

    patch.setattr(ContinuousScheduler, "abort", wrong)


@schedule_mutation("aborted-as-it-has-filled-a-block", "used 5, expected 4")
def let_an_aborted_one_take_its_next_block(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def taking(self: ContinuousScheduler, request: str) -> bool:
        if self._tkv % 64 == 0 and request in self._kept_running:
            self.pool.allocate(next(iter(self._running)).request_id, 1)
        return abort(self, request)

    patch.setattr(ContinuousScheduler, "abort", taking)


# --- chunked --------------------------------------------------------------------------------------------------------


def is_in(name: str) -> Callable[[Any, str], bool]:
    """Return a function that gets a scheduler and a request id, and returns whether the request is in a list.

    ``name`` is the attribute of the scheduler that has the list.
    """
    return lambda self, request: any(s.request_id == request for s in getattr(self, name))


@chunked_mutation("aborted-while-it-is-paused", "paused")
def abort_no_request_that_is_paused(patch: pytest.MonkeyPatch) -> None:
    paused = is_in("_paused")
    abort_only(patch, ChunkedScheduler, lambda self, request: not paused(self, request))


@chunked_mutation("aborted-while-it-is-paused-after-a-chunk", "step 7")
def abort_no_request_that_is_paused_after_a_chunk(patch: pytest.MonkeyPatch) -> None:
    paused = is_in("_paused")
    abort_only(patch, ChunkedScheduler, lambda self, request: not (self._ran_a_chunk and paused(self, request)))


@chunked_mutation("aborted-between-two-chunks-after-a-decode", "step 4")
def abort_no_request_whose_prefill_waits(patch: pytest.MonkeyPatch) -> None:
    def waits_for_its_turn(self: Any, request: str) -> bool:
        current = self._prefilling
        return current is not None and current.request_id == request and not self._ran_a_chunk

    abort_only(patch, ChunkedScheduler, lambda self, request: not waits_for_its_turn(self, request))


@chunked_mutation("aborted-after-its-first-chunk", "step 1")
def abort_no_request_directly_after_a_chunk(patch: pytest.MonkeyPatch) -> None:
    running = is_in("_running")
    abort_only(patch, ChunkedScheduler, lambda self, request: not (self._ran_a_chunk and running(self, request)))


@chunked_mutation("aborted-in-its-prefill-while-another-is-paused", "step 7")
def forget_a_prefill_next_to_paused_ones_a_step_late(patch: pytest.MonkeyPatch) -> None:
    abort_only(patch, ChunkedScheduler, lambda self, request: not (self._paused and is_in("_running")(self, request)))


@chunked_mutation("aborted-before-any-step", "step 0")
def abort_nothing_before_any_chunk(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ChunkedScheduler)
    abort_only(patch, ChunkedScheduler, lambda self, request: hasattr(self, "last"))


@chunked_mutation("aborted-after-an-empty-step-chunked", "step 3")
def abort_nothing_after_an_empty_step_without_chunks(patch: pytest.MonkeyPatch) -> None:
    remember_plans(patch, ChunkedScheduler)
    abort_only(patch, ChunkedScheduler, lambda self, request: self.last != Idle.__name__)


@chunked_mutation("a-head-that-waits-for-a-turn-is-aborted-and-the-next-starts", "expected a prefill of 2")
def start_no_request_after_an_abort_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    start_no_request_after_an_abort(patch)


@chunked_mutation("without-interleaving-the-next-starts-after-the-abort-of-the-head", "expected a prefill of 2")
def start_no_request_after_an_abort_without_interleaving(patch: pytest.MonkeyPatch) -> None:
    start_no_request_after_an_abort(patch)


@chunked_mutation("a-head-that-lacks-blocks-is-aborted-and-the-next-starts", "expected a prefill of 2")
def start_no_request_after_the_abort_of_a_blocked_head(patch: pytest.MonkeyPatch) -> None:
    start_no_request_after_an_abort(patch)


def start_no_request_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    plan, may_start = ChunkedScheduler.plan, ChunkedScheduler._may_start

    def remembering(self: Any) -> Any:
        self.withdrawn = self._aborted_in_queue
        return plan(self)

    patch.setattr(ChunkedScheduler, "plan", remembering)
    patch.setattr(ChunkedScheduler, "_may_start", lambda self: not self.withdrawn and may_start(self))


@chunked_mutation("aborted-while-it-is-paused-and-its-blocks-are-wanted", "step 6")
def keep_the_blocks_of_an_aborted_one_that_was_paused(patch: pytest.MonkeyPatch) -> None:
    abort, free = ChunkedScheduler.abort, PrefixPool.free

    def keeping(self: ChunkedScheduler, request: str) -> bool:
        paused = is_in("_paused")(self, request)
        with pytest.MonkeyPatch.context() as within:
            within.setattr(PrefixPool, "free", (lambda pool, holder: None) if paused else free)
            return abort(self, request)

    patch.setattr(ChunkedScheduler, "abort", keeping)


@chunked_mutation("aborted-while-it-is-paused-for-a-second-decode", "step 7")
def reset_the_pauses_of_all_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    abort = ChunkedScheduler.abort

    def forgetting(self: ChunkedScheduler, request: str) -> bool:
        for sequence in self._paused:
            sequence.paused_for = 0
        return abort(self, request)

    patch.setattr(ChunkedScheduler, "abort", forgetting)


@chunked_mutation("one-that-ended-is-aborted-while-another-is-prefilled", "step 4")
def end_the_prefill_where_the_aborted_one_has_ended(patch: pytest.MonkeyPatch) -> None:
    abort = ChunkedScheduler.abort

    def wrong(self: ChunkedScheduler, request: str) -> bool:
        if abort(self, request):
            return True
        if self._prefilling is not None:
            self._end(self._prefilling)
        return False

    patch.setattr(ChunkedScheduler, "abort", wrong)


@chunked_mutation("aborted-in-the-step-that-finishes-it-chunked", "expected a prefill of 2")
def start_no_request_after_the_abort_of_one_that_finished(patch: pytest.MonkeyPatch) -> None:
    def tells(self: Any, request: str) -> bool:
        self._aborted_in_queue = True
        return True

    abort_only(patch, ChunkedScheduler, tells)
    start_no_request_after_an_abort(patch)


@chunked_mutation("aborted-after-a-chunk-and-the-next-waits-for-its-turn", "expected a decode of 0")
def forget_the_last_chunk_when_its_request_is_aborted(patch: pytest.MonkeyPatch) -> None:
    abort = ChunkedScheduler.abort

    def forgetting(self: ChunkedScheduler, request: str) -> bool:
        prefilling = self._prefilling is not None and self._prefilling.request_id == request
        self._ran_a_chunk = self._ran_a_chunk and not prefilling
        return abort(self, request)

    patch.setattr(ChunkedScheduler, "abort", forgetting)


@schedule_mutation("abort-a-request-that-waits-while-all-blocks-are-reserved", "waiting 2 3, expected 3")
def keep_an_aborted_request_in_the_queue_of_a_full_cache(patch: pytest.MonkeyPatch) -> None:
    abort = ContinuousScheduler.abort

    def keeping(self: ContinuousScheduler, request_id: str) -> bool:
        waits = any(sequence.request_id == request_id for sequence in self._waiting)
        return (waits and not self.pool.unreserved) or abort(self, request_id)

    patch.setattr(ContinuousScheduler, "abort", keeping)


@schedule_mutation("a-batch-of-one-runs-a-request-that-is-padded-beyond-the-context", "expected a prefill of 1")
def let_a_batch_of_one_wait_for_room_in_the_context(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def checked(self: ContinuousScheduler, sequence: ScheduledSequence) -> bool:
        padded = -(-sequence.prompt_length // 64) * 64
        fits = padded + sequence.max_tokens <= self.limits.max_model_len
        return may_join(self, sequence) and (fits or self.limits.max_num_seqs > 1)

    patch.setattr(ContinuousScheduler, "_may_join", checked)


@schedule_mutation("the-head-joins-although-a-longer-one-behind-it-could-not", "expected a prefill of 2")
def check_the_end_of_the_queue_if_a_sequence_has_a_block_of_padding(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def last(self: ContinuousScheduler, sequence: ScheduledSequence) -> bool:
        padded = any(running.left_padding >= 64 for running in self._running)
        return may_join(self, self._waiting[-1] if padded else sequence)

    patch.setattr(ContinuousScheduler, "_may_join", last)
