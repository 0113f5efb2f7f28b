"""Mutations that write to wrong blocks of the KV cache, without an effect on any output."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from engine.execution import runner as model_runner
from engine.execution.runner import ModelRunner
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model.chunk_inputs import chunk_inputs
from engine.model.inputs import ModelInputs, decode_inputs
from engine.scheduling.plan import Decode, MixedStep, Part, PrefillChunk, Runnable
from engine.sequence import SequenceState
from tests.harness.mutations.registry import budget_output_mutation, chunked_output_mutation, output_mutation


@output_mutation("batch-of-one-runs-one-after-the-other", "writes to block")
def write_the_copy_of_a_lone_decode_to_a_block_that_is_free(patch: pytest.MonkeyPatch) -> None:
    def stray(plan: Decode, token_ids: Sequence[int], *more: Any) -> ModelInputs:
        inputs = decode_inputs(plan, token_ids, *more)
        if len(plan.request_ids) == 1:
            inputs.slot_mapping[-1] = (max(plan.block_tables[0]) + 1) * BLOCK_SIZE
        return inputs

    patch.setattr(model_runner, "decode_inputs", stray)


@chunked_output_mutation("a-hit-within-the-first-chunk", ", which it found")
def write_what_is_computed_again_over_blocks_that_were_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model_runner, "chunk_inputs", lambda plan: chunk_inputs(plan._replace(hit_blocks=0)))


@chunked_output_mutation("chunks-of-three-blocks-waste-more", ", which it found")
def write_over_the_last_block_that_was_found(patch: pytest.MonkeyPatch) -> None:
    def one_less(plan: PrefillChunk) -> ModelInputs:
        return chunk_inputs(plan._replace(hit_blocks=max(0, plan.hit_blocks - 1)))

    patch.setattr(model_runner, "chunk_inputs", one_less)


@budget_output_mutation("twins-in-one-step", ", which it found")
def compute_the_last_found_block_of_a_budget_again(patch: pytest.MonkeyPatch) -> None:
    execute = ModelRunner.execute

    def again(part: Part, sequence: SequenceState) -> Part:
        if part.is_decode or part.start < BLOCK_SIZE or part.start % BLOCK_SIZE:
            return part
        start = part.start - BLOCK_SIZE
        return part._replace(start=start, token_ids=sequence.token_ids_between(start, part.stop))

    def generous(self: ModelRunner, plan: Runnable, sequences: Mapping[str, SequenceState]) -> Any:
        if isinstance(plan, MixedStep):
            plan = plan._replace(parts=tuple(again(part, sequences[part.request_id]) for part in plan.parts))
        return execute(self, plan, sequences)

    patch.setattr(ModelRunner, "execute", generous)
