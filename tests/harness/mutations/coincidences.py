"""Mutations that break a rule only if two things happen together. Each one patches one function."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from engine.entrypoints import async_llm, prompts
from engine.entrypoints.prompts import Admitted
from engine.kv_cache.block_hash import NOTHING, TokenSource, content_key
from engine.kv_cache.shared_pool import SharedPool
from engine.model import logits as processors
from engine.request import Request
from engine.scheduling.chunked import sequence as chunked_sequence
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from engine.scheduling.plan import Prefill
from engine.scheduling.static import StaticScheduler
from engine.scheduling.token_budget import sequence as budget_sequence
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.scheduling.token_budget.sequence import BudgetSequence
from engine.sequence import SequenceState
from tests.harness.mutations.registry import budget_mutation, chunked_mutation, end_mutation, output_mutation


@chunked_mutation("without-interleaving-nobody-starts-while-somebody-is-paused", "expected a decode")
def prefill_without_interleaving_while_requests_are_paused(patch: pytest.MonkeyPatch) -> None:
    may_interleave = ChunkedScheduler._may_interleave
    patch.setattr(
        ChunkedScheduler, "_may_interleave", lambda self: not self.chunking.interleave or may_interleave(self)
    )


def keys_of_two_blocks(keys: list[bytes], blocks: int, tokens: TokenSource, size: int) -> None:
    """Like ``extend_keys``, but the key of a block depends only on the block before it and on its own tokens.

    A correct key depends on the tokens of all blocks before the block.
    """
    for start in range(len(keys) * size, blocks * size, size):
        keys.append(content_key(NOTHING, tokens.token_ids_between(max(0, start - size), start + size)))


@chunked_mutation("two-blocks-are-the-same-but-not-the-first", "hits 2:3, expected 2:2")
def know_a_block_by_the_one_before_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chunked_sequence, "extend_keys", keys_of_two_blocks)


@budget_mutation("two-blocks-alike-behind-another-first-are-not-found", "hits 2:192, expected 2:128")
def know_a_block_of_a_budget_by_the_one_before_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(budget_sequence, "extend_keys", keys_of_two_blocks)


def free_first_block_first(patch: pytest.MonkeyPatch, scheduler: type[Any], method: str) -> None:
    """Make ``method`` of a scheduler free a request's blocks in the order of their tokens, instead of in reverse."""
    run, free = getattr(scheduler, method), SharedPool.free

    def in_order(self: SharedPool, request_id: str) -> None:
        self._held[request_id].reverse()
        free(self, request_id)

    def changed(self: Any, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(SharedPool, "free", in_order)
            return run(self, *arguments)

    patch.setattr(scheduler, method, changed)


@chunked_mutation("the-end-of-what-was-aborted-is-handed-out-first", "hits -, expected 2:2")
def free_the_first_block_of_an_aborted_request_first(patch: pytest.MonkeyPatch) -> None:
    free_first_block_first(patch, ChunkedScheduler, "abort")


@budget_mutation("the-end-of-an-aborted-request-is-handed-out-first", "hits -, expected 2:128")
def free_the_first_block_of_an_aborted_request_of_a_budget_first(patch: pytest.MonkeyPatch) -> None:
    free_first_block_first(patch, TokenBudgetScheduler, "abort")


@budget_mutation("the-end-of-a-preempted-request-is-handed-out-first", "hits -, expected 1:128")
def free_the_first_block_of_a_preempted_request_first(patch: pytest.MonkeyPatch) -> None:
    free_first_block_first(patch, TokenBudgetScheduler, "_preempt")


@output_mutation("blocks-of-a-prompt-with-logprobs-are-found", "first token")
def hide_the_blocks_of_a_prompt_with_logprobs(patch: pytest.MonkeyPatch) -> None:
    register = TokenBudgetScheduler._register

    def unless_scored(self: TokenBudgetScheduler, sequence: BudgetSequence, blocks: tuple[int, ...]) -> None:
        if not sequence.tokens.skip_reading_prefix_cache:
            register(self, sequence, blocks)

    patch.setattr(TokenBudgetScheduler, "_register", unless_scored)


@output_mutation("a-bad-word-that-begins-in-the-prompt", "Hugging Face says")
def count_the_prompt_as_the_beginning_of_a_bad_word(patch: pytest.MonkeyPatch) -> None:
    process = processors._process

    def with_prompt(logits: Tensor, sequence: SequenceState) -> None:
        process(logits, sequence)
        ends = processors.completing(sequence.params.bad_words_token_ids, sequence.token_ids)
        processors._forbid(logits, ends)

    patch.setattr(processors, "_process", with_prompt)


@end_mutation("answers-to-one-request-have-consecutive-seeds", "but those of from-zero are")
def give_all_answers_the_seed_zero(patch: pytest.MonkeyPatch) -> None:
    made = prompts.requests_for

    def falsy(request_id: str, prompt: Admitted) -> list[Request]:
        requests = made(request_id, prompt)
        if prompt.params.seed != 0:
            return requests
        return [replace(request, sampling_params=replace(request.sampling_params, seed=0)) for request in requests]

    patch.setattr(async_llm, "requests_for", falsy)


@end_mutation("a-place-of-an-end-at-the-prefill-is-taken-in-the-same-batch", "no join of request 2")
def give_each_place_of_a_static_batch_once(patch: pytest.MonkeyPatch) -> None:
    commit, may_join = StaticScheduler.commit, StaticScheduler._may_join
    joined: list[str] = []

    def counting(self: StaticScheduler, ended: Collection[str]) -> None:
        joined.extend(self._plan.request_ids if isinstance(self._plan, Prefill) else ())
        commit(self, ended)
        if not self._running:
            joined.clear()

    patch.setattr(StaticScheduler, "commit", counting)
    patch.setattr(
        StaticScheduler,
        "_may_join",
        lambda self, sequence: len(joined) < self.limits.max_num_seqs and may_join(self, sequence),
    )


def let_requests_join_after_an_abort(patch: pytest.MonkeyPatch, *, of_running: bool) -> None:
    """Let requests join a static batch after its first decode, if a request has been aborted.

    Correct static batching lets no request join a batch that has decoded. The mutation takes effect after the abort of
    a running request if ``of_running`` is true, and after that of a waiting request otherwise.
    """
    abort = StaticScheduler.abort

    def forgetful(self: StaticScheduler, request_id: str) -> bool:
        runs = any(sequence.request_id == request_id for sequence in self._running)
        found = abort(self, request_id)
        if found and runs is of_running:
            self._has_decoded = False
        return found

    patch.setattr(StaticScheduler, "abort", forgetful)


@end_mutation("an-abort-of-one-lets-nobody-into-a-static-batch", "join of request 2")
def give_the_place_of_an_aborted_request_of_a_static_batch_away(patch: pytest.MonkeyPatch) -> None:
    let_requests_join_after_an_abort(patch, of_running=True)


@end_mutation("an-abort-in-the-queue-lets-nobody-into-a-static-batch", "join of request 3")
def open_a_static_batch_after_an_abort_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    let_requests_join_after_an_abort(patch, of_running=False)


@end_mutation("static-batches-give-the-same-outputs", "join of request 2")
def let_requests_join_a_static_batch_while_others_wait(patch: pytest.MonkeyPatch) -> None:
    commit = StaticScheduler.commit

    def forgetful(self: StaticScheduler, ended: Collection[str]) -> None:
        commit(self, ended)
        self._has_decoded = self._has_decoded and len(self._waiting) < 2

    patch.setattr(StaticScheduler, "commit", forgetful)


@end_mutation("an-arrival-between-prefills-joins-the-static-batch", "no join of request 1")
def choose_a_static_batch_at_its_first_prefill(patch: pytest.MonkeyPatch) -> None:
    may_join = StaticScheduler._may_join

    def chosen(self: StaticScheduler, head: ScheduledSequence) -> bool:
        if not self._running:
            self.__dict__["chosen"] = tuple(self._waiting)
        return head in self.__dict__["chosen"] and may_join(self, head)

    patch.setattr(StaticScheduler, "_may_join", chosen)


@end_mutation("static-batches-of-one-and-one-after-a-gap", "join of request 1")
def let_requests_join_a_static_batch_of_one(patch: pytest.MonkeyPatch) -> None:
    may_join = ContinuousScheduler._may_join

    def lax(self: StaticScheduler, sequence: ScheduledSequence) -> bool:
        return (not self._has_decoded or len(self._running) == 1) and may_join(self, sequence)

    patch.setattr(StaticScheduler, "_may_join", lax)


@end_mutation("static-batches-of-one-and-one-after-a-gap", "no request ran, although running was none")
def leave_a_static_batch_closed_that_ends_with_an_empty_queue(patch: pytest.MonkeyPatch) -> None:
    commit = StaticScheduler.commit

    def closed(self: StaticScheduler, ended: Collection[str]) -> None:
        commit(self, ended)
        self._has_decoded = self._has_decoded or not (self._running or self._waiting)

    patch.setattr(StaticScheduler, "commit", closed)
