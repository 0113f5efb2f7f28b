"""Mutations of the logprobs of prompts, of streams, and of golden tokens. Each one patches one function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.entrypoints import async_llm, deltas
from engine.entrypoints.deltas import DeltaMaker
from engine.execution import runner
from engine.model import prompt_scores, sampler
from engine.model.grammar_masks import constrained
from engine.model.prompt_scores import PromptLogits
from engine.request import CompletionOutput, SamplingParams
from engine.scheduling.plan import Runnable
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.sequence import SequenceState
from engine.tensor_parallel.messages import Logits
from engine.tensor_parallel.workers import Workers
from tests.harness.mutations.registry import output_mutation


@output_mutation("prompts-of-boundary-lengths", "prompt: logprob of token")
def score_each_prompt_token_by_its_own_position(patch: pytest.MonkeyPatch) -> None:
    store = prompt_scores.store_prompt_logprobs

    def shifted(logits: PromptLogits, sequence: SequenceState) -> None:
        store(logits._replace(values=logits.values.roll(-1, dims=0)), sequence)

    patch.setattr(runner, "store_prompt_logprobs", shifted)


@output_mutation("prompts-of-boundary-lengths", "prompt has 0 logprobs")
def keep_the_logprobs_of_the_last_chunk_only(patch: pytest.MonkeyPatch) -> None:
    store = prompt_scores.store_prompt_logprobs

    def forgetful(logits: PromptLogits, sequence: SequenceState) -> None:
        sequence.prompt_tokens.clear()
        store(logits, sequence)

    patch.setattr(runner, "store_prompt_logprobs", forgetful)


@output_mutation("prompts-of-boundary-lengths", "alternatives, expected")
def list_one_alternative_for_a_prompt_token(patch: pytest.MonkeyPatch) -> None:
    with_logprobs = sampler.with_logprobs

    def few(logits: Tensor, token_ids: Sequence[int], wanted: Sequence[int | None]) -> Any:
        return with_logprobs(logits, token_ids, [min(count or 0, 1) for count in wanted])

    patch.setattr(prompt_scores, "with_logprobs", few)


@output_mutation("prompts-of-boundary-lengths", "has alternative 1 with logprob")
def list_the_alternatives_of_the_next_prompt_token(patch: pytest.MonkeyPatch) -> None:
    with_logprobs = sampler.with_logprobs

    def late(logits: Tensor, token_ids: Sequence[int], wanted: Sequence[int | None]) -> Any:
        found = with_logprobs(logits, token_ids, wanted)
        return [token._replace(top=after.top) for token, after in zip(found, [*found[1:], found[-1]], strict=True)]

    patch.setattr(prompt_scores, "with_logprobs", late)


@output_mutation("prompts-of-boundary-lengths", "prompt: logprob of token")
def score_a_chunk_as_if_it_began_the_prompt(patch: pytest.MonkeyPatch) -> None:
    store = prompt_scores.store_prompt_logprobs

    def early(logits: PromptLogits, sequence: SequenceState) -> None:
        store(logits, sequence)
        if logits.start:
            store(logits._replace(start=0), sequence)

    patch.setattr(runner, "store_prompt_logprobs", early)


@output_mutation("a-prompt-in-the-cache-is-computed-again", "prompt has 0 logprobs")
def read_the_prefix_cache_where_logits_are_wanted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceState, "skip_reading_prefix_cache", property(lambda self: False))


@output_mutation("with-blocks-for-half-of-the-requests", "prompt has 0 logprobs")
def forget_the_logprobs_of_a_preempted_prompt(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt

    def forgetful(self: TokenBudgetScheduler, sequence: Any) -> None:
        preempt(self, sequence)
        sequence.tokens.prompt_tokens.clear()
        patch.setattr(prompt_scores, "wanted_parts", lambda plan, sequences: ())
        patch.setattr(runner, "wanted_parts", lambda plan, sequences: ())

    patch.setattr(TokenBudgetScheduler, "_preempt", forgetful)


@output_mutation("given-tokens-whatever-is-sampled", "Hugging Face's is")
def sample_where_tokens_are_given(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceState, "golden_token_id", property(lambda self: None))


@output_mutation("given-tokens-whatever-is-sampled", "Hugging Face says")
def make_given_tokens_certain(patch: pytest.MonkeyPatch) -> None:
    """Report the logprob 0 (probability 1) for every token, also for golden tokens, instead of the model's logprob."""
    with_logprobs = sampler.with_logprobs

    def certain(logits: Tensor, token_ids: Sequence[int], wanted: Sequence[int | None]) -> Any:
        return [
            token if token.logprob is None else token._replace(logprob=0.0)
            for token in with_logprobs(logits, token_ids, wanted)
        ]

    patch.setattr(sampler, "with_logprobs", certain)


@output_mutation("prompts-of-one-and-of-several-blocks-on-two-processes", "prompt has 0 logprobs")
def request_no_logits_of_prompts_from_workers(patch: pytest.MonkeyPatch) -> None:
    step_logits = Workers.step_logits

    def forgetful(self: Workers, plan: Any, token_ids: Sequence[int], wanted: Any) -> Logits:
        return step_logits(self, plan, token_ids, ())

    patch.setattr(Workers, "step_logits", forgetful)


@output_mutation("each-kind-of-stream-has-the-logprobs-of-its-prompt", "prompt has 0 logprobs")
def lose_the_logprobs_of_the_prompt_as_outputs_accumulate(patch: pytest.MonkeyPatch) -> None:
    join = deltas.merged

    def forgetful(earlier: CompletionOutput, later: CompletionOutput) -> CompletionOutput:
        return replace(join(earlier, later), prompt_logprobs=later.prompt_logprobs)

    patch.setattr(async_llm, "merged", forgetful)


@output_mutation("logprobs-of-a-stream", "logprobs, expected")
def leave_out_the_logprobs_of_the_last_delta(patch: pytest.MonkeyPatch) -> None:
    delta = DeltaMaker.delta

    def shortened(self: DeltaMaker, sequence: SequenceState) -> CompletionOutput:
        made = delta(self, sequence)
        return replace(made, logprobs=None) if made.finish_reason is not None else made

    patch.setattr(DeltaMaker, "delta", shortened)


@output_mutation("prompts-that-join-requests-that-decode", "prompt: logprob of token")
def score_prompts_by_the_wrong_position_while_three_requests_decode(patch: pytest.MonkeyPatch) -> None:
    execute, store = runner.ModelRunner.execute, prompt_scores.store_prompt_logprobs
    decoding = [0]

    def counting(self: runner.ModelRunner, plan: Runnable, sequences: Mapping[str, SequenceState]) -> Any:
        decoding[0] = sum(bool(each.tokens) and each.finish_reason is None for each in sequences.values())
        return execute(self, plan, sequences)

    def shifted(logits: PromptLogits, sequence: SequenceState) -> None:
        store(logits._replace(values=logits.values.roll(decoding[0] // 3, dims=0)), sequence)

    patch.setattr(runner.ModelRunner, "execute", counting)
    patch.setattr(runner, "store_prompt_logprobs", shifted)


def change_logits_of_prompts(patch: pytest.MonkeyPatch, change: Callable[[Tensor, SamplingParams], Tensor]) -> None:
    store = prompt_scores.store_prompt_logprobs

    def changed(logits: PromptLogits, sequence: SequenceState) -> None:
        store(logits._replace(values=change(logits.values, sequence.params)), sequence)

    patch.setattr(runner, "store_prompt_logprobs", changed)


@output_mutation("prompts-that-join-requests-that-decode", "prompt: logprob of token")
def divide_the_logits_of_prompts_by_the_temperature(patch: pytest.MonkeyPatch) -> None:
    change_logits_of_prompts(patch, lambda logits, params: logits / (params.temperature or 1))


@output_mutation("prompts-that-join-requests-that-decode", "prompt: logprob of token")
def add_biases_to_the_logits_of_prompts(patch: pytest.MonkeyPatch) -> None:
    def biased(logits: Tensor, params: SamplingParams) -> Tensor:
        logits = logits.clone()
        for token_id, bias in params.biases:
            logits[:, token_id] += bias
        return logits

    change_logits_of_prompts(patch, biased)


@output_mutation("prompts-of-requests-with-a-structure", "prompt: logprob of token")
def mask_the_logits_of_prompts_by_the_grammar(patch: pytest.MonkeyPatch) -> None:
    store = prompt_scores.store_prompt_logprobs

    def masked(logits: PromptLogits, sequence: SequenceState) -> None:
        rows = [constrained(row[None], [sequence])[0] for row in logits.values]
        store(logits._replace(values=torch.stack(rows)), sequence)

    patch.setattr(runner, "store_prompt_logprobs", masked)
