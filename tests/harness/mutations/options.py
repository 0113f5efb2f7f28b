"""Mutations of schedulers that are wrong only with one option. With the default options the engine is correct."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.config import Chunking, TokenBudget
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.scheduling.token_budget.sequence import BudgetSequence
from tests.harness.mutations.registry import budget_mutation, chunked_mutation

# --- chunked ------------------------------------------------------------------------------------------------------


def pause_nothing(patch: pytest.MonkeyPatch, applies: Callable[[Chunking], bool]) -> None:
    pause = ChunkedScheduler._pause
    patch.setattr(ChunkedScheduler, "_pause", lambda self: None if applies(self.chunking) else pause(self))


@chunked_mutation("the-same-six-with-chunks-of-64", "paused -, expected 1")
def pause_nothing_with_small_chunks(patch: pytest.MonkeyPatch) -> None:
    pause_nothing(patch, lambda chunking: chunking.chunk_size < 128)


@chunked_mutation("the-same-six-with-chunks-of-192", "paused -, expected ")
def pause_nothing_with_large_chunks(patch: pytest.MonkeyPatch) -> None:
    pause_nothing(patch, lambda chunking: chunking.chunk_size > 128)


@chunked_mutation("the-same-six-without-interleaving", "paused -, expected ")
def pause_nothing_without_interleaving(patch: pytest.MonkeyPatch) -> None:
    pause_nothing(patch, lambda chunking: not chunking.interleave)


@chunked_mutation("the-same-six-with-long-outputs-first", "is a decode of 1")
def let_decodes_run_between_the_chunks_of_a_long_output_first(patch: pytest.MonkeyPatch) -> None:
    start = ChunkedScheduler._start

    def forgetting(self: ChunkedScheduler, found: tuple[int, ...]) -> Any:
        started = start(self, found)
        if self.chunking.long_output_priority:
            self._prefilling = None
        return started

    patch.setattr(ChunkedScheduler, "_start", forgetting)


@chunked_mutation("the-same-six-without-a-prefix-cache", "paused -, expected 4")
def pause_nothing_without_a_prefix_cache(patch: pytest.MonkeyPatch) -> None:
    pause_nothing(patch, lambda chunking: not chunking.enable_prefix_caching)


@chunked_mutation("the-same-six-with-three-options-at-once", "paused -, expected ")
def pause_nothing_with_small_chunks_in_consecutive_steps(patch: pytest.MonkeyPatch) -> None:
    pause_nothing(patch, lambda chunking: chunking.chunk_size < 128 and not chunking.interleave)


# --- a budget of tokens -------------------------------------------------------------------------------------------


def send_preempted_requests_to_the_end(patch: pytest.MonkeyPatch, applies: Callable[[TokenBudget], bool]) -> None:
    preempt = TokenBudgetScheduler._preempt

    def last(self: TokenBudgetScheduler, sequence: BudgetSequence) -> None:
        preempt(self, sequence)
        if applies(self.options):
            self._waiting.rotate(-1)

    patch.setattr(TokenBudgetScheduler, "_preempt", last)


@budget_mutation("the-same-six-by-the-rules-of-0.32", "waiting 4 3 5, expected 3 4 5")
def send_preempted_requests_to_the_end_by_the_rules_of_0_32(patch: pytest.MonkeyPatch) -> None:
    send_preempted_requests_to_the_end(patch, lambda options: options.rules == "0.32")


@budget_mutation("the-same-six-under-a-threshold-by-the-rules-of-0.32", "waiting 4 5 3, expected 3 4 5")
def send_preempted_requests_to_the_end_under_a_threshold(patch: pytest.MonkeyPatch) -> None:
    send_preempted_requests_to_the_end(patch, lambda options: options.long_prefill_token_threshold > 0)


@budget_mutation("the-same-six-as-whole-prompts", "expected 3 4")
def send_preempted_requests_to_the_end_without_chunks(patch: pytest.MonkeyPatch) -> None:
    send_preempted_requests_to_the_end(patch, lambda options: not options.enable_chunked_prefill)


@budget_mutation("the-same-six-without-prefix-caching", "waiting 4 3 5, expected 3 4 5")
def send_preempted_requests_to_the_end_without_a_cache(patch: pytest.MonkeyPatch) -> None:
    send_preempted_requests_to_the_end(patch, lambda options: not options.enable_prefix_caching)


@budget_mutation("the-same-six-without-prefix-caching-by-the-rules-of-0.32", "waiting 4 3 5, expected 3 4 5")
def send_preempted_requests_to_the_end_without_a_cache_by_the_rules_of_0_32(patch: pytest.MonkeyPatch) -> None:
    send_preempted_requests_to_the_end(
        patch, lambda options: not options.enable_prefix_caching and options.rules == "0.32"
    )


@budget_mutation("the-same-six-in-chunks", "waiting 3 4, expected 3 4 5")
def lose_a_request_that_arrives_after_a_preemption(patch: pytest.MonkeyPatch) -> None:
    add = TokenBudgetScheduler.add

    def losing(self: TokenBudgetScheduler, *request: Any) -> None:
        if not self._plan.preempted:
            add(self, *request)

    patch.setattr(TokenBudgetScheduler, "add", losing)


@budget_mutation("the-same-six-under-a-threshold", "scheduled 0:1 1:1 3:47, expected 0:1 1:1 3:40")
def forget_the_threshold_while_no_block_is_free(patch: pytest.MonkeyPatch) -> None:
    threshold = TokenBudgetScheduler._threshold
    patch.setattr(TokenBudgetScheduler, "_threshold", lambda self: threshold(self) if self.pool.free_total else 0)


@budget_mutation("the-same-six-under-a-threshold-by-the-rules-of-0.32", "scheduled 0:1 1:1 3:87, expected 0:1 1:1 3:40")
def apply_the_threshold_to_two_running_requests_only(patch: pytest.MonkeyPatch) -> None:
    threshold = TokenBudgetScheduler._threshold

    def for_few(self: TokenBudgetScheduler) -> int:
        return 0 if self.options.rules == "0.32" and len(self._running) > 2 else threshold(self)

    patch.setattr(TokenBudgetScheduler, "_threshold", for_few)


@budget_mutation("a-block-that-the-first-generated-token-fills-is-found", "hits -, expected 1:64")
def register_no_block_that_the_first_generated_token_fills(patch: pytest.MonkeyPatch) -> None:
    register = TokenBudgetScheduler._register

    def later(self: TokenBudgetScheduler, sequence: BudgetSequence, blocks: tuple[int, ...]) -> None:
        if sequence.generated != 1:
            register(self, sequence, blocks)

    patch.setattr(TokenBudgetScheduler, "_register", later)
