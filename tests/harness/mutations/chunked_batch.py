"""Mutations of the tensors of prefill chunks, of blocks in the prefix cache, and of the state that a pause keeps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.execution import runner as model_runner
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model import logits as processors
from engine.model.chunk_inputs import aligned_decode_inputs, chunk_inputs
from engine.request import SamplingParams
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.plan import PrefillChunk
from engine.sequence import SequenceState
from tests.harness.mutations.registry import chunked_output_mutation
from tests.helpers.narrow import present


@chunked_output_mutation("a-prompt-of-two-chunks-and-a-token", "Hugging Face says")
def positions_of_every_chunk_from_zero(patch: pytest.MonkeyPatch) -> None:
    def shifted(plan: PrefillChunk) -> Any:
        made = chunk_inputs(plan)
        return replace(made, position_ids=(made.position_ids - plan.start).clamp(min=0))

    patch.setattr(model_runner, "chunk_inputs", shifted)


@chunked_output_mutation("a-prompt-of-two-chunks-and-a-token", "Hugging Face says")
def left_padding_visible_in_chunks(patch: pytest.MonkeyPatch) -> None:
    def visible(plan: PrefillChunk) -> Any:
        made = chunk_inputs(plan)
        return replace(made, left_padded_prompt_mask=torch.zeros_like(present(made.left_padded_prompt_mask)))

    patch.setattr(model_runner, "chunk_inputs", visible)


@chunked_output_mutation("a-prompt-that-fills-two-chunks", "Hugging Face says")
def chunks_that_see_nothing_before_them(patch: pytest.MonkeyPatch) -> None:
    def alone(plan: PrefillChunk) -> Any:
        made = chunk_inputs(plan)
        start = plan.number * plan.chunk_size
        return replace(made, left_padded_prompt_mask=present(made.left_padded_prompt_mask).clamp(min=start))

    patch.setattr(model_runner, "chunk_inputs", alone)


@chunked_output_mutation("twins-in-one-batch", "Hugging Face says")
def found_blocks_read_from_the_padding_block(patch: pytest.MonkeyPatch) -> None:
    def unread(plan: PrefillChunk) -> Any:
        made = chunk_inputs(plan)
        table = present(made.block_table).clone()
        first = plan.left_padding // BLOCK_SIZE
        table[0, first : first + plan.hit_blocks] = 0
        return replace(made, block_table=table, slot_mapping=made.slot_mapping.clamp(max=0) + made.slot_mapping)

    patch.setattr(model_runner, "chunk_inputs", unread)


@chunked_output_mutation("tkv-grows-when-a-longer-one-joins", "Hugging Face says")
def block_padding_visible_in_decodes(patch: pytest.MonkeyPatch) -> None:
    def visible(plan: Any, last_token_ids: Any) -> Any:
        made = aligned_decode_inputs(plan, last_token_ids)
        return replace(made, left_padded_prompt_mask=torch.zeros_like(present(made.left_padded_prompt_mask)))

    patch.setattr(model_runner, "aligned_decode_inputs", visible)


@chunked_output_mutation("in-the-same-block", "Hugging Face says")
def everybody_at_the_largest_position(patch: pytest.MonkeyPatch) -> None:
    def same(plan: Any, last_token_ids: Any) -> Any:
        made = aligned_decode_inputs(plan, last_token_ids)
        return replace(made, position_ids=torch.full_like(made.position_ids, int(made.position_ids.max())))

    patch.setattr(model_runner, "aligned_decode_inputs", same)


@chunked_output_mutation("in-the-same-block", "Hugging Face says")
def slots_one_too_low_in_aligned_decodes(patch: pytest.MonkeyPatch) -> None:
    def low(plan: Any, last_token_ids: Any) -> Any:
        made = aligned_decode_inputs(plan, last_token_ids)
        return replace(made, slot_mapping=made.slot_mapping - 1)

    patch.setattr(model_runner, "aligned_decode_inputs", low)


@chunked_output_mutation("what-was-not-computed-is-not-found", "Hugging Face says")
def let_blocks_be_found_before_they_are_written(patch: pytest.MonkeyPatch) -> None:
    grow = ChunkedScheduler._grow

    def early(self: ChunkedScheduler, sequence: Any, tokens: int, written: int) -> None:
        grow(self, sequence, tokens, max(written, sequence.computed + tokens))

    patch.setattr(ChunkedScheduler, "_grow", early)


PAUSED_STATES = "chunked-samples-penalties-and-min-tokens-through-a-pause"


def when_resumed(patch: pytest.MonkeyPatch, change: Callable[[SequenceState], None]) -> None:
    """Call ``change`` with the state of a request at the first decode of the request after a pause."""
    pause = ChunkedScheduler._pause

    def forgetful(self: ChunkedScheduler) -> None:
        before = list(self._paused)
        pause(self)
        for sequence in before:
            if sequence not in self._paused:
                assert isinstance(sequence.tokens, SequenceState)
                change(sequence.tokens)

    patch.setattr(ChunkedScheduler, "_pause", forgetful)


@chunked_output_mutation(PAUSED_STATES, "request 0: its tokens depend on its batch")
def draw_again_from_the_seed_after_a_pause(patch: pytest.MonkeyPatch) -> None:
    when_resumed(patch, lambda state: setattr(state, "generator", None))


@chunked_output_mutation(PAUSED_STATES, "request 1: its tokens depend on its batch")
def count_only_tokens_from_after_a_pause(patch: pytest.MonkeyPatch) -> None:
    process, penalise = processors._process, processors.penalise_generated
    first: dict[SequenceState, int] = {}

    def recent(logits: Tensor, sequence: SequenceState) -> None:
        def penalise_recent(row: Tensor, generated: Sequence[int], params: SamplingParams) -> None:
            penalise(row, generated[first.get(sequence, 0) :], params)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(processors, "penalise_generated", penalise_recent)
            process(logits, sequence)

    when_resumed(patch, lambda state: first.update({state: len(state.tokens)}))
    patch.setattr(processors, "_process", recent)


@chunked_output_mutation(PAUSED_STATES, "request 2: its tokens depend on its batch")
def forget_min_tokens_after_a_pause(patch: pytest.MonkeyPatch) -> None:
    when_resumed(patch, lambda state: setattr(state, "params", replace(state.params, min_tokens=0)))
