"""Mutations of the sampler, which chooses the next token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config import ResolvedLimits
from engine.core import EngineCore
from engine.execution.runner import ModelRunner
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model import sampler
from engine.model.logits import processed
from engine.request import SamplingParams, TokenOutput
from engine.scheduling.plan import MixedStep, PrefillChunk, Runnable, kind_of
from engine.sequence import SequenceState
from tests.harness.mutations.registry import budget_output_mutation, chunked_output_mutation, output_mutation


def with_other_params(patch: pytest.MonkeyPatch, change: Callable[[SamplingParams], SamplingParams]) -> None:
    """Make the sampler use the temperature and filters that ``change`` returns for the parameters of each request."""
    filtered = sampler.filtered_probabilities

    def changed(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        return filtered(logits, [change(each) for each in params])

    patch.setattr(sampler, "filtered_probabilities", changed)


@output_mutation("temperatures-below-and-above-one", "tokens are not distributed as")
def always_decode_greedily(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampler, "_draw", lambda logits, sequences, seed: logits.argmax(dim=-1).tolist())


@output_mutation("other-seeds-draw-other-tokens", "should get different tokens")
def decode_greedily_whatever_the_seed(patch: pytest.MonkeyPatch) -> None:
    always_decode_greedily(patch)


@output_mutation("temperatures-below-and-above-one", "not distributed as temperature 1.6")
def ignore_a_temperature_above_one(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, temperature=min(params.temperature, 1.0)))


@output_mutation("temperatures-below-and-above-one", "not distributed as temperature 0.6")
def ignore_a_temperature_below_one(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, temperature=max(params.temperature, 1.0)))


@output_mutation("each-filter-alone", "can't be drawn with temperature 1.5, top_k 4")
def keep_one_token_more_than_top_k(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, top_k=params.top_k + 1 if params.top_k > 0 else 0))


@output_mutation("each-filter-alone", "not distributed as temperature 1.5, top_k 4")
def keep_one_token_fewer_than_top_k(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, top_k=max(params.top_k - 1, 0)))


@output_mutation("one-token-after-the-same-prefix", "can't be drawn with temperature 1.3, top_k 12")
def keep_one_token_more_than_top_k_after_one_prefix(patch: pytest.MonkeyPatch) -> None:
    keep_one_token_more_than_top_k(patch)


@output_mutation("each-filter-alone", "can't be drawn with temperature 1.5, top_p 0.6")
def ignore_top_p(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, top_p=1.0))


@output_mutation("each-filter-alone", "can't be drawn with temperature 1.5, min_p 0.15")
def ignore_min_p(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, min_p=0.0))


@output_mutation("filters-together", "can't be drawn with temperature 1.5")
def apply_min_p_after_top_p(patch: pytest.MonkeyPatch) -> None:
    filtered = sampler.filtered_probabilities

    def late(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        before = filtered(logits, [replace(each, min_p=0.0) for each in params])
        least = before.amax(-1, keepdim=True) * torch.tensor([[each.min_p] for each in params])
        kept = before.masked_fill(before < least, 0)
        return kept / kept.sum(-1, keepdim=True)

    patch.setattr(sampler, "filtered_probabilities", late)


@output_mutation("each-filter-alone", "not distributed as temperature 1.5, top_p 0.6")
def apply_top_p_before_the_temperature(patch: pytest.MonkeyPatch) -> None:
    filtered = sampler.filtered_probabilities

    def early(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        for row, each in enumerate(params):
            if each.top_p < 1:
                logits = logits.clone()
                logits[row] = sampler._nucleus(logits[row][None], torch.tensor([[each.top_p]]))[0]
        return filtered(logits, [replace(each, top_p=1.0) for each in params])

    patch.setattr(sampler, "filtered_probabilities", early)


@output_mutation("logprobs-of-what-is-drawn", "under the raw logits it is")
def take_logprobs_after_the_temperature(patch: pytest.MonkeyPatch) -> None:
    sample = sampler.sample
    with_logprobs = sampler.with_logprobs
    temperatures: list[float] = []

    def remembering(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[TokenOutput]:
        temperatures[:] = [sequence.params.temperature or 1.0 for sequence in sequences]
        return sample(logits, sequences, seed)

    def scaled(logits: Tensor, *others: Any) -> list[TokenOutput]:
        return with_logprobs(logits / torch.tensor(temperatures)[:, None], *others)

    from engine.execution import runner

    patch.setattr(runner, "sample", remembering)
    patch.setattr(sampler, "with_logprobs", scaled)


@output_mutation("temperatures-below-and-above-one", "equal the token before")
def seed_the_random_source_again_at_every_token(patch: pytest.MonkeyPatch) -> None:
    generator = sampler._generator

    def anew(sequence: SequenceState, seed: int) -> torch.Generator:
        sequence.generator = None
        return generator(sequence, seed)

    patch.setattr(sampler, "_generator", anew)


@output_mutation("requests-without-a-seed-draw-other-tokens", "its tokens depend on its batch")
def ignore_a_seed_next_to_a_request_without_one(patch: pytest.MonkeyPatch) -> None:
    draw = sampler._draw
    shared = torch.Generator().manual_seed(99)

    def shared_source(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[int]:
        if any(sequence.params.seed is None for sequence in sequences):
            for sequence in sequences:
                sequence.generator = shared
        return draw(logits, sequences, seed)

    patch.setattr(sampler, "_draw", shared_source)


@output_mutation("requests-without-a-seed-draw-other-tokens", "should get different tokens")
def draw_the_same_for_all_without_a_seed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampler, "hash_text", lambda text: 5)


@output_mutation("filters-stay-with-their-request-as-others-leave", "its tokens depend on its batch")
def move_min_p_to_another_row_when_two_leave_in_a_step(patch: pytest.MonkeyPatch) -> None:
    filtered, rows_before = sampler.filtered_probabilities, [0]

    def moved(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        values = [each.min_p for each in params]
        if rows_before[0] - len(params) >= 2 or (rows_before[0] < 0 and len(params) > 1):
            rows_before[0] = -1
            values = values[1:] + values[:1]
        elif rows_before[0] >= 0:
            rows_before[0] = len(params)
        return filtered(logits, [replace(each, min_p=v) for each, v in zip(params, values, strict=True)])

    patch.setattr(sampler, "filtered_probabilities", moved)


@output_mutation("forbidden-ends-stay-with-their-request-as-others-leave", "its tokens depend on its batch")
def move_min_tokens_to_another_row_when_two_leave_in_a_step(patch: pytest.MonkeyPatch) -> None:
    without, before = processed, [0]

    def moved(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
        if before[0] - len(sequences) >= 2:
            before[0] = 99  # from now on
        else:
            before[0] = max(before[0], len(sequences)) if before[0] == 99 else len(sequences)
        if before[0] == 99:
            return without(logits, [*sequences[1:], *sequences[:1]])
        return without(logits, sequences)

    patch.setattr(sampler, "processed", moved)


@output_mutation("parameters-that-leave-every-token-draw-the-same", "should get the same tokens")
def take_a_top_k_above_the_vocabulary_for_half_of_it(patch: pytest.MonkeyPatch) -> None:
    filtered = sampler.filtered_probabilities

    def halved(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        most = logits.shape[1]
        return filtered(logits, [replace(each, top_k=2) if each.top_k > most else each for each in params])

    patch.setattr(sampler, "filtered_probabilities", halved)


@output_mutation("parameters-that-leave-one-token-are-greedy", "should get the same tokens")
def keep_two_tokens_where_top_p_leaves_one(patch: pytest.MonkeyPatch) -> None:
    with_other_params(patch, lambda params: replace(params, top_p=max(params.top_p, 0.9)))


@output_mutation("logprobs-do-not-depend-on-who-is-there", "the logprobs of token")
def give_the_logprobs_of_the_row_before(patch: pytest.MonkeyPatch) -> None:
    with_logprobs = sampler.with_logprobs

    def shifted(logits: Tensor, *others: Any) -> list[TokenOutput]:
        return with_logprobs(logits.roll(1, dims=0) if len(logits) > 1 else logits, *others)

    patch.setattr(sampler, "with_logprobs", shifted)


@output_mutation("other-seeds-draw-other-tokens", "should get different tokens")
def take_the_last_bits_of_a_seed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampler, "_SEEDS_TORCH_TELLS_APART", range(-(2**63), 2**63))


@output_mutation("without-seeds-beside-seeds", "not distributed as temperature 1.2")
def draw_without_a_seed_at_temperature_one(patch: pytest.MonkeyPatch) -> None:
    def tame(params: SamplingParams) -> SamplingParams:
        return params if params.seed is not None else replace(params, temperature=params.temperature**0.2, top_k=3)

    with_other_params(patch, tame)


def decode_greedily_where(patch: pytest.MonkeyPatch, holds: Callable[[SequenceState], bool]) -> None:
    draw = sampler._draw

    def partly(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[int]:
        drawn, best = draw(logits, sequences, seed), logits.argmax(dim=-1).tolist()
        rows = zip(sequences, best, drawn, strict=True)
        return [likely if holds(sequence) else token_id for sequence, likely, token_id in rows]

    patch.setattr(sampler, "_draw", partly)


EVERY_LENGTH = "samples-after-prompts-of-every-length"


@output_mutation(EVERY_LENGTH, "request 0: 1000 tokens are not distributed as")
def decode_greedily_after_a_prompt_of_one_token(patch: pytest.MonkeyPatch) -> None:
    decode_greedily_where(patch, lambda sequence: len(sequence.request.prompt_token_ids) == 1)


@output_mutation(EVERY_LENGTH, "request 2: 1000 tokens are not distributed as")
def decode_greedily_after_a_prompt_of_several_blocks(patch: pytest.MonkeyPatch) -> None:
    decode_greedily_where(patch, lambda sequence: len(sequence.request.prompt_token_ids) > BLOCK_SIZE)


@output_mutation(EVERY_LENGTH, "equal the token before")
def seed_the_random_source_again_at_every_token_after_a_long_prompt(patch: pytest.MonkeyPatch) -> None:
    generator = sampler._generator

    def anew(sequence: SequenceState, seed: int) -> torch.Generator:
        if len(sequence.request.prompt_token_ids) > BLOCK_SIZE:
            sequence.generator = None
        return generator(sequence, seed)

    patch.setattr(sampler, "_generator", anew)


@chunked_output_mutation("chunked-samples-with-a-seed", "should get different tokens")
def decode_greedily_with_chunked_prefill(patch: pytest.MonkeyPatch) -> None:
    always_decode_greedily(patch)


@budget_output_mutation("sampled-with-a-seed-after-two-chunks", "should get different tokens")
def decode_greedily_with_a_token_budget(patch: pytest.MonkeyPatch) -> None:
    always_decode_greedily(patch)


@budget_output_mutation("samples-and-greedy-requests-in-mixed-steps", "its tokens depend on its batch")
def draw_with_the_parameters_of_a_neighbour_in_mixed_steps(patch: pytest.MonkeyPatch) -> None:
    execute, filtered = ModelRunner.execute, sampler.filtered_probabilities
    kinds = [""]

    def watched(self: ModelRunner, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        kinds[0] = kind_of(plan)
        return execute(self, plan, sequences)

    def moved(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
        return filtered(logits, [*params[1:], params[0]] if kinds[0] == "mixed" else params)

    patch.setattr(ModelRunner, "execute", watched)
    patch.setattr(sampler, "filtered_probabilities", moved)


def list_one_alternative_fewer(patch: pytest.MonkeyPatch, steps: type[Any]) -> None:
    """Leave out the last alternative from the logprobs of tokens, in steps whose plan is of the type ``steps``."""
    execute = ModelRunner.execute

    def fewer(self: ModelRunner, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        found = execute(self, plan, sequences)
        return [token._replace(top=token.top[:-1]) for token in found] if isinstance(plan, steps) else found

    patch.setattr(ModelRunner, "execute", fewer)


@chunked_output_mutation("chunked-alternatives-of-every-number", "the alternatives to token 0 differ")
def list_one_alternative_fewer_after_a_chunk(patch: pytest.MonkeyPatch) -> None:
    list_one_alternative_fewer(patch, PrefillChunk)


@budget_output_mutation("alternatives-of-every-number-in-mixed-steps", "the alternatives to token 0 differ")
def list_one_alternative_fewer_with_a_token_budget(patch: pytest.MonkeyPatch) -> None:
    list_one_alternative_fewer(patch, MixedStep)


@output_mutation("filters-stay-with-their-request-as-others-are-aborted", "request 0: its tokens depend on its batch")
def keep_one_token_more_than_top_k_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    abort, restart = EngineCore.abort, EngineCore.restart
    aborted = [False]

    def aborting(self: EngineCore, request_id: str) -> bool:
        aborted[0] = True
        return abort(self, request_id)

    def restarting(self: EngineCore, limits: ResolvedLimits) -> ResolvedLimits:
        aborted[0] = False
        return restart(self, limits)

    patch.setattr(EngineCore, "abort", aborting)
    patch.setattr(EngineCore, "restart", restarting)
    with_other_params(patch, lambda params: replace(params, top_k=params.top_k + (aborted[0] and params.top_k > 0)))
