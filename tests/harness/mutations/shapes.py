"""Mutations of the input tensors of a step. Each violates one shape rule, so that the simulated card refuses the step.

Most of them take effect after the warm-up. Those in ``START_MUTATIONS`` take effect, and are refused, in the warm-up.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.execution import runner as model_runner
from engine.model import chunk_inputs as chunk_batch
from engine.model import inputs as batch
from engine.model.inputs import ModelInputs
from engine.model.loader import load_model
from tests.harness.mutations.outputs import change_decode_inputs
from tests.harness.mutations.registry import shape_mutation, start_mutation

JOINING = "new-sequence-joins-during-decode"
CHUNKED = "chunks-take-turns-with-decodes"


def change_prefill_inputs(patch: pytest.MonkeyPatch, change: Callable[[ModelInputs], ModelInputs]) -> None:
    """Replace the input tensors of every prefill by the result of ``change``."""
    inputs = batch.prefill_inputs
    patch.setattr(model_runner, "prefill_inputs", lambda *arguments: change(inputs(*arguments)))


def change_chunk_inputs(patch: pytest.MonkeyPatch, change: Callable[[ModelInputs], ModelInputs]) -> None:
    """Replace the input tensors of every prefill chunk by the result of ``change``."""
    inputs = chunk_batch.chunk_inputs
    patch.setattr(model_runner, "chunk_inputs", lambda *arguments: change(inputs(*arguments)))


def lengthened_to(made: ModelInputs, positions: int) -> ModelInputs:
    """Add right padding to the input tensors of a prefill, so that they have ``positions`` positions.

    The keys and values of the additional positions are written to the prompt's last block.
    """
    more = positions - made.input_ids.shape[1]
    pad = torch.nn.functional.pad
    slots = made.slot_mapping[:, -64:].repeat(1, -(-more // 64))[:, :more]
    return replace(
        made,
        input_ids=pad(made.input_ids, (0, more)),
        position_ids=pad(made.position_ids, (0, more)),
        slot_mapping=torch.cat([made.slot_mapping, slots], dim=1),
        mask=pad(made.mask, (0, more, 0, more)) if made.mask is not None else None,
    )


def twice(made: ModelInputs) -> ModelInputs:
    """Return the input tensors of a prefill with the prompt in two rows instead of one."""
    ids, at, slots = (t.repeat(2, 1) for t in (made.input_ids, made.position_ids, made.slot_mapping))
    return replace(made, input_ids=ids, position_ids=at, slot_mapping=slots)


@shape_mutation(JOINING, "this decode has one row, but the device needs at least 2: duplicate the row")
def decode_a_lone_sequence_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "SMALLEST_DECODE_BATCH", 1)


@shape_mutation(JOINING, "this prefill has 68 positions, but lengths on the device must be whole blocks of 64 tokens")
def pad_prompts_by_four_tokens_more(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: lengthened_to(made, made.input_ids.shape[1] + 4))


@shape_mutation(JOINING, "the block table is not a rectangle padded with block 0 on the left: row 0 is")
def pad_block_tables_on_the_right(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "pad_block_tables", lambda tables, width: [list(t) + [0] * (width - len(t)) for t in tables])


@shape_mutation(JOINING, "the block table is not a rectangle padded with block 0 on the left: row 0 has 3 blocks")
def make_block_tables_a_block_too_wide(patch: pytest.MonkeyPatch) -> None:
    pad = batch.pad_block_tables
    patch.setattr(batch, "pad_block_tables", lambda tables, width: pad(tables, width + 1))


@shape_mutation(JOINING, "this step writes to block 0, which is padding on the device")
def write_a_prompt_one_block_too_low(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: replace(made, slot_mapping=made.slot_mapping - 64))


@shape_mutation(JOINING, "this step writes to block 0, which is padding on the device")
def write_new_tokens_to_the_padding(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.slot_mapping.remainder_(64))


@shape_mutation(JOINING, "this decode has 32 rows, but the device is compiled for at most 4")
def copy_a_lone_sequence_far_too_often(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "SMALLEST_DECODE_BATCH", 32)


@shape_mutation(JOINING, "this prefill has 576 positions, but the device is compiled for max_model_len 512")
def pad_prompts_beyond_the_context(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: lengthened_to(made, 576))


@shape_mutation(JOINING, "this decode has a tkv of 577, but the device is compiled for max_model_len 512")
def count_tkv_from_the_end_of_the_context(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.current_tkv_mask.add_(512))


@shape_mutation(JOINING, "this prefill matches no graph that the warm-up compiled: tensor 'tensors['mask']'")
def make_masks_in_float32_once_it_is_warm(patch: pytest.MonkeyPatch) -> None:
    mask = batch._prefill_mask
    patch.setattr(batch, "_prefill_mask", lambda n, left, dtype: mask(n, left, torch.float32))


@shape_mutation(CHUNKED, "this chunk matches no graph that the warm-up compiled: tensor 'tensors['input_ids']'")
def make_chunks_a_block_longer(patch: pytest.MonkeyPatch) -> None:
    change_chunk_inputs(patch, lambda made: lengthened_to(made, made.input_ids.shape[1] + 64))


@shape_mutation(CHUNKED, "this chunk writes to blocks")
def write_a_chunk_one_block_too_high(patch: pytest.MonkeyPatch) -> None:
    change_chunk_inputs(patch, lambda made: replace(made, slot_mapping=made.slot_mapping + 64))


@shape_mutation(CHUNKED, "the slots of this chunk are not whole blocks, but the device writes whole blocks")
def write_a_chunk_from_its_end(patch: pytest.MonkeyPatch) -> None:
    change_chunk_inputs(patch, lambda made: replace(made, slot_mapping=made.slot_mapping.flip(1)))


@shape_mutation(CHUNKED, "the block table is not a rectangle padded with block 0 on the left: row 0 is")
def pad_a_chunk_on_the_right(patch: pytest.MonkeyPatch) -> None:
    def turned(made: ModelInputs) -> ModelInputs:
        assert made.block_table is not None
        return replace(made, block_table=made.block_table.flip(1))

    change_chunk_inputs(patch, turned)


@shape_mutation(CHUNKED, "this chunk ends at column 640")
def run_chunks_beyond_the_context(patch: pytest.MonkeyPatch) -> None:
    def far(made: ModelInputs) -> ModelInputs:
        end = torch.full_like(made.current_tkv_mask, 640)  # type: ignore[arg-type]
        return replace(made, current_tkv_mask=end, left_padded_prompt_mask=torch.zeros_like(end))

    change_chunk_inputs(patch, far)


@shape_mutation(CHUNKED, "this step writes to block 0, which is padding on the device")
def write_new_tokens_of_aligned_rows_to_the_padding(patch: pytest.MonkeyPatch) -> None:
    inputs = chunk_batch.aligned_decode_inputs

    def low(*arguments: Any) -> ModelInputs:
        made = inputs(*arguments)
        return replace(made, slot_mapping=made.slot_mapping % 64)

    patch.setattr(model_runner, "aligned_decode_inputs", low)


@shape_mutation(CHUNKED, "this decode has one row, but the device needs at least 2: duplicate the row")
def decode_a_lone_aligned_row_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chunk_batch, "SMALLEST_DECODE_BATCH", 1)


@start_mutation(CHUNKED, "this chunk has 2 prompts, but the device prefills one prompt at a time")
def prefill_chunks_of_two_prompts(patch: pytest.MonkeyPatch) -> None:
    def both(made: ModelInputs) -> ModelInputs:
        tensors = ("block_table", "current_tkv_mask", "left_padded_prompt_mask")
        return replace(twice(made), **{name: getattr(made, name).repeat_interleave(2, dim=0) for name in tensors})

    change_chunk_inputs(patch, both)


@start_mutation(JOINING, "this prefill has 2 prompts, but the device prefills one prompt at a time")
def prefill_two_rows(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, twice)


@start_mutation(JOINING, "mask is float32, but the device computes in float16")
def make_masks_in_float32(patch: pytest.MonkeyPatch) -> None:
    make_masks_in_float32_once_it_is_warm(patch)


@start_mutation(JOINING, "weight is bfloat16")
def leave_the_weights_in_bfloat16(patch: pytest.MonkeyPatch) -> None:

    def uncast(checkpoint: Any, dtype: torch.dtype, *, divided: bool) -> Any:
        return load_model(checkpoint, torch.bfloat16, divided=divided)

    patch.setattr(model_runner, "load_model", uncast)
