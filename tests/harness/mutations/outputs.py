"""Mutations of what a step computes. They do not affect the schedule."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.execution import runner as model_runner
from engine.kv_cache.block_pool import BlockPool
from engine.model import attention
from engine.model import inputs as batch
from tests.harness.mutations.registry import output_mutation


def change_decode_inputs(patch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Call ``change`` with the input tensors of every decode. ``change`` modifies them in place."""
    inputs = batch.decode_inputs

    def changed(*arguments: Any) -> Any:
        made = inputs(*arguments)
        change(made)
        return made

    patch.setattr(model_runner, "decode_inputs", changed)


@output_mutation("prompts-aligned-with-tkv-boundaries", "Hugging Face says")
def hand_out_a_block_twice(patch: pytest.MonkeyPatch) -> None:
    allocate = BlockPool.allocate

    def twice(self: BlockPool, holder: str, blocks: int) -> None:
        allocate(self, holder, blocks)
        self._held[holder] = [1 + block % 2 for block in self._held[holder]]

    patch.setattr(BlockPool, "allocate", twice)
    patch.setattr(BlockPool, "free", lambda self, holder: None)


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def positions_one_too_high_in_decode(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.position_ids.add_(1))


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def left_padding_visible_in_decode(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.left_padded_prompt_mask.sub_(1).clamp_(min=0))


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def left_padding_visible_in_prefill(patch: pytest.MonkeyPatch) -> None:
    def blind(n: int, left: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((n, n), -torch.inf, dtype=dtype).triu_(diagonal=1)[None, None]

    patch.setattr(batch, "_prefill_mask", blind)


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def slots_one_too_low_in_decode(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.slot_mapping.sub_(1))


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def block_tables_padded_on_the_right(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "pad_block_tables", lambda tables, width: [list(t) + [0] * (width - len(t)) for t in tables])


@output_mutation("prompts-aligned-with-tkv-boundaries", "Hugging Face says")
def rows_of_the_block_table_swapped(patch: pytest.MonkeyPatch) -> None:
    pad = batch.pad_block_tables
    patch.setattr(batch, "pad_block_tables", lambda tables, width: pad(tables, width)[::-1])


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def sample_from_the_right_padding(patch: pytest.MonkeyPatch) -> None:
    inputs = batch.prefill_inputs

    def last(*arguments: Any) -> Any:
        made = inputs(*arguments)
        object.__setattr__(made, "output_position", made.last_n_tokens - 1)
        return made

    patch.setattr(model_runner, "prefill_inputs", last)


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def new_token_does_not_see_itself(patch: pytest.MonkeyPatch) -> None:
    visible = attention._visible_columns

    def blind(inputs: Any) -> Any:
        return visible(replace(inputs, current_tkv_mask=inputs.current_tkv_mask - 1))

    patch.setattr(attention, "_visible_columns", blind)


@output_mutation("new-sequence-joins-during-decode", "Hugging Face says")
def feed_the_first_token_again(patch: pytest.MonkeyPatch) -> None:
    inputs = batch.decode_inputs
    patch.setattr(model_runner, "decode_inputs", lambda plan, last: inputs(plan, [last[0]] * len(last)))
