"""Faults in how a step is put to the device: each breaks one of its shape rules, and the simulated card must refuse it.

Most of them begin when the engine is warm. What is wrong from the start is refused in the warm-up: those are
``START_FAULTS``.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine import batch, model_runner
from engine.batch import ModelInputs
from tests.harness.faults import shape_fault, start_fault
from tests.harness.planted_outputs import change_decode_inputs

JOINING = "new-sequence-joins-during-decode"


def change_prefill_inputs(patch: pytest.MonkeyPatch, change: Callable[[ModelInputs], ModelInputs]) -> None:
    """Let ``change`` make other inputs of every prefill."""
    inputs = batch.prefill_inputs
    patch.setattr(model_runner, "prefill_inputs", lambda *arguments: change(inputs(*arguments)))


def lengthened_to(made: ModelInputs, positions: int) -> ModelInputs:
    """A prefill with more right padding, all of it written to the last block."""
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
    """A prefill of the same prompt in two rows."""
    ids, at, slots = (t.repeat(2, 1) for t in (made.input_ids, made.position_ids, made.slot_mapping))
    return replace(made, input_ids=ids, position_ids=at, slot_mapping=slots)


@shape_fault(JOINING, "the device has no decode of one row: a lone sequence is doubled")
def decode_a_lone_sequence_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "SMALLEST_DECODE_BATCH", 1)


@shape_fault(JOINING, "lengths on the device are whole blocks of 64 tokens, and this prefill has 68")
def pad_prompts_by_four_tokens_more(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: lengthened_to(made, made.input_ids.shape[1] + 4))


@shape_fault(JOINING, "the block table is no rectangle padded with block 0 on the left: row 0 is")
def pad_block_tables_on_the_right(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "pad_block_tables", lambda tables, width: [list(t) + [0] * (width - len(t)) for t in tables])


@shape_fault(JOINING, "the block table is no rectangle padded with block 0 on the left: it has 3 columns")
def make_block_tables_a_block_too_wide(patch: pytest.MonkeyPatch) -> None:
    pad = batch.pad_block_tables
    patch.setattr(batch, "pad_block_tables", lambda tables, width: pad(tables, width + 1))


@shape_fault(JOINING, "block 0 is padding on the device, and this step writes to it")
def write_a_prompt_one_block_too_low(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: replace(made, slot_mapping=made.slot_mapping - 64))


@shape_fault(JOINING, "block 0 is padding on the device, and this step writes to it")
def write_new_tokens_to_the_padding(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.slot_mapping.remainder_(64))


@shape_fault(JOINING, "the device is compiled for 4 rows at most, and this decode has 32")
def copy_a_lone_sequence_far_too_often(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "SMALLEST_DECODE_BATCH", 32)


@shape_fault(JOINING, "nothing on the device is longer than max_model_len 512, and this prefill has 576 positions")
def pad_prompts_beyond_the_context(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, lambda made: lengthened_to(made, 576))


@shape_fault(JOINING, "nothing on the device is longer than max_model_len 512, and this decode has a tkv of 577")
def count_tkv_from_the_end_of_the_context(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.current_tkv_mask.add_(512))


@shape_fault(JOINING, "this prefill fits no graph of the warm-up, and compiling is over: tensor 'tensors['mask']'")
def make_masks_in_float32_once_it_is_warm(patch: pytest.MonkeyPatch) -> None:
    mask = batch._prefill_mask
    patch.setattr(batch, "_prefill_mask", lambda n, left, dtype: mask(n, left, torch.float32))


@start_fault(JOINING, "the device prefills one prompt at a time, and this prefill has 2")
def prefill_two_rows(patch: pytest.MonkeyPatch) -> None:
    change_prefill_inputs(patch, twice)


@start_fault(JOINING, "the device computes in float16, and mask is float32")
def make_masks_in_float32(patch: pytest.MonkeyPatch) -> None:
    make_masks_in_float32_once_it_is_warm(patch)


@start_fault(JOINING, "weight is bfloat16")
def leave_the_weights_in_bfloat16(patch: pytest.MonkeyPatch) -> None:
    load = model_runner.load_model

    def uncast(checkpoint: Any, dtype: torch.dtype, *, divided: bool) -> Any:
        return load(checkpoint, torch.bfloat16, divided=divided)

    patch.setattr(model_runner, "load_model", uncast)
