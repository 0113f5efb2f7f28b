"""Mutations of the input tensors of a step with the scheduler ``token_budget``. The simulated card must refuse each."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.execution import runner as model_runner
from engine.model import mixed_inputs
from engine.model.mixed_inputs import decode_rows, part_in_whole_blocks, part_inputs
from engine.scheduling.plan import Part
from tests.harness.mutations.registry import shape_mutation

MIXED = "a-prompt-of-five-chunks-beside-a-decode"
CUT = "decodes-and-two-chunks-in-one-step"


@shape_mutation(MIXED, "this decode has one row, but the device needs at least 2: duplicate the row")
def decode_a_lone_row_of_a_mixed_step_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mixed_inputs, "SMALLEST_DECODE_BATCH", 1)


@shape_mutation(MIXED, "but lengths on the device must be whole blocks of 64 tokens")
def begin_a_part_within_a_block(patch: pytest.MonkeyPatch) -> None:
    def within(part: Part, block_size: int) -> Any:
        return part_in_whole_blocks(part._replace(before=()), block_size)

    patch.setattr(model_runner, "part_in_whole_blocks", within)


@shape_mutation(CUT, "this part matches no graph that the warm-up compiled: 64 <= ")
def end_a_part_within_a_block(patch: pytest.MonkeyPatch) -> None:
    def exact(part: Part, block_size: int) -> Any:
        return replace(part_inputs(part, block_size), last_n_tokens=block_size)

    patch.setattr(model_runner, "part_in_whole_blocks", exact)


@shape_mutation(MIXED, "the slots of this chunk are not whole blocks, but the device writes whole blocks")
def write_a_part_from_its_end(patch: pytest.MonkeyPatch) -> None:
    def turned(part: Part, block_size: int) -> Any:
        made = part_in_whole_blocks(part, block_size)
        return replace(made, slot_mapping=made.slot_mapping.flip(1))

    patch.setattr(model_runner, "part_in_whole_blocks", turned)


@shape_mutation(CUT, "this chunk writes to blocks")
def write_a_part_to_the_block_before_its_own(patch: pytest.MonkeyPatch) -> None:
    def lower(part: Part, block_size: int) -> Any:
        made = part_in_whole_blocks(part, block_size)
        return replace(made, slot_mapping=made.slot_mapping - block_size) if part.blocks[0] > 1 else made

    patch.setattr(model_runner, "part_in_whole_blocks", lower)


@shape_mutation(CUT, "the block table is not a rectangle padded with block 0 on the left")
def pad_the_rows_of_a_mixed_step_on_the_right(patch: pytest.MonkeyPatch) -> None:
    def right(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        assert made.block_table is not None
        return replace(made, block_table=torch.nn.functional.pad(made.block_table, (0, 1)))

    patch.setattr(model_runner, "decode_rows", right)


@shape_mutation(CUT, "this step writes to block 0, which is padding on the device")
def write_new_tokens_of_a_mixed_step_to_the_padding(patch: pytest.MonkeyPatch) -> None:
    def padded(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        return replace(made, slot_mapping=made.slot_mapping % block_size)

    patch.setattr(model_runner, "decode_rows", padded)
