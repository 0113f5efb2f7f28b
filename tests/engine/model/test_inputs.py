"""Tests of the input tensors of a step: the positions of the KV cache that each row reads, writes and attends to."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.inputs import ModelInputs, decode_inputs, pad_block_tables, prefill_inputs
from engine.request import TokenOutput
from engine.scheduling.plan import Decode, Prefill, Runnable
from engine.sequence import SequenceState
from tests.helpers.budget import examples
from tests.helpers.engine import MADE_UP_TOKEN, Workload, core_with, run, workloads
from tests.helpers.narrow import present

PROMPT = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20)


@pytest.fixture
def joined() -> ModelInputs:
    """Return the inputs of the prefill of a prompt of ten tokens that joins a batch.

    The prompt has 60 tokens of left padding and 58 of right padding, and its two blocks are not in ascending order.
    """
    return prefill_inputs(Prefill("a", 10, 70, 60, (5, 2)), PROMPT)


@pytest.fixture
def pair() -> ModelInputs:
    """Return the inputs of a decode of two rows at tkv 130.

    One row has three blocks. The other has two, because its first block would have only padding.
    """
    return decode_inputs(Decode(("b", "a"), 130, (70, 2), ((9, 4), (3, 1, 7))), (21, 22))


def seen(mask: torch.Tensor) -> torch.Tensor:
    """Return a bool tensor ``[n, n]``: whether the position of the row attends to the position of the column."""
    assert set(mask.flatten().tolist()) <= {0.0, -torch.inf}
    return mask[0, 0] == 0


def test_a_prompt_stands_between_left_and_right_padding(joined: ModelInputs) -> None:
    assert joined.input_ids.tolist() == [[0] * 60 + list(PROMPT) + [0] * 58]
    assert joined.input_ids.dtype == joined.position_ids.dtype == joined.slot_mapping.dtype == torch.int64
    assert present(joined.mask).dtype == torch.float32


def test_positions_count_from_the_first_token_of_the_prompt(joined: ModelInputs) -> None:
    assert joined.position_ids.tolist() == [[0] * 60 + list(range(68))]


def test_a_prompt_is_written_to_its_blocks_in_their_order(joined: ModelInputs) -> None:
    assert joined.slot_mapping.tolist() == [[*range(5 * 64, 6 * 64), *range(2 * 64, 3 * 64)]]


def test_a_prefill_brings_no_block_table_which_is_what_makes_it_one(joined: ModelInputs) -> None:
    assert joined.block_table is None
    assert joined.current_tkv_mask is None
    assert joined.left_padded_prompt_mask is None


def test_the_logits_to_sample_are_those_of_the_last_token_of_the_prompt(joined: ModelInputs) -> None:
    first = joined.input_ids.shape[1] - joined.last_n_tokens
    assert joined.input_ids[0, first + joined.output_position] == PROMPT[-1]
    assert joined.output_rows == 1


@pytest.mark.parametrize(("length", "position"), [(1, 0), (63, 62), (64, 63), (65, 0), (128, 63), (129, 0)])
def test_the_last_token_is_found_at_the_boundaries_of_blocks(length: int, position: int) -> None:
    blocks = tuple(range(1, 1 + -(-length // 64)))
    inputs = prefill_inputs(Prefill("a", length, len(blocks) * 64, 0, blocks), range(1, 1 + length))
    assert inputs.output_position == position
    assert inputs.input_ids[0, inputs.input_ids.shape[1] - 64 + position] == length


@given(left=st.integers(0, 63), length=st.integers(1, 200))
def test_the_mask_is_causal_and_keeps_left_padding_to_itself(left: int, length: int) -> None:
    blocks = tuple(range(1, 1 + -(-(left + length) // 64)))
    inputs = prefill_inputs(Prefill("a", length, left + length, left, blocks), [3] * length)
    n = len(blocks) * 64
    mask = present(inputs.mask)
    assert mask.shape == (1, 1, n, n)
    rows, columns = torch.arange(n)[:, None], torch.arange(n)[None]
    wanted = (columns <= rows) & ((rows < left) | (columns >= left))
    assert torch.equal(seen(mask), wanted)
    assert seen(mask).any(dim=1).all(), "a row that sees nothing would be NaN"


def test_a_decode_runs_one_token_a_row(pair: ModelInputs) -> None:
    assert pair.input_ids.tolist() == [[21], [22]]
    assert pair.position_ids.tolist() == [[60], [128]]
    assert (pair.last_n_tokens, pair.output_position, pair.output_rows) == (1, 0, 2)
    assert pair.mask is None


@pytest.mark.requirement("CB-PAD-05")
def test_block_tables_are_padded_on_the_left_with_the_padding_block(pair: ModelInputs) -> None:
    assert present(pair.block_table).tolist() == [[0, 9, 4], [3, 1, 7]]


def test_a_new_token_goes_to_its_offset_in_the_last_block(pair: ModelInputs) -> None:
    assert pair.slot_mapping.tolist() == [[4 * 64 + 2], [7 * 64 + 2]]


def test_a_decode_says_what_is_padding_and_what_is_not_there_yet(pair: ModelInputs) -> None:
    assert present(pair.left_padded_prompt_mask).tolist() == [70, 2]
    assert present(pair.current_tkv_mask).tolist() == [131, 131]
    tensors = (pair.block_table, pair.slot_mapping, pair.left_padded_prompt_mask, pair.current_tkv_mask)
    assert {present(tensor).dtype for tensor in tensors} == {torch.int64}


@pytest.mark.parametrize(
    ("tkv", "blocks", "slot"), [(63, (8,), 8 * 64 + 63), (64, (8, 5), 5 * 64), (65, (8, 5), 5 * 64 + 1)]
)
def test_a_token_that_opens_a_block_is_its_first(tkv: int, blocks: tuple[int, ...], slot: int) -> None:
    inputs = decode_inputs(Decode(("a", "b"), tkv, (0, 0), (blocks, blocks)), (1, 1))
    assert inputs.slot_mapping.tolist() == [[slot], [slot]]
    assert present(inputs.block_table).shape == (2, len(blocks))


@pytest.mark.requirement("CB-DECODE-03")
def test_a_lone_sequence_is_doubled_and_only_its_own_row_is_sampled() -> None:
    inputs = decode_inputs(Decode(("a",), 64, (3,), ((8, 5),)), (21,))
    assert inputs.output_rows == 1
    for tensor in (
        inputs.input_ids,
        inputs.position_ids,
        inputs.slot_mapping,
        inputs.block_table,
        inputs.current_tkv_mask,
        inputs.left_padded_prompt_mask,
    ):
        rows = present(tensor)
        assert rows.shape[0] == 2
        assert torch.equal(rows[0], rows[1])


def test_a_rectangle_of_blocks_keeps_tables_that_are_wide_enough() -> None:
    assert pad_block_tables([(1,), (2, 3), (4, 5, 6)], 3) == [[0, 0, 1], [0, 2, 3], [4, 5, 6]]


class RememberingCache:
    """An executor without a model. Its cache has the request and position of each token instead of keys and values.

    In each decode it checks that every row would attend to exactly the tokens of its own request, in order.
    """

    def __init__(self) -> None:
        self.slots: dict[int, tuple[str, int]] = {}

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> Sequence[TokenOutput]:
        tokens = [sequences[request_id].token_ids for request_id in plan.request_ids]
        if isinstance(plan, Prefill):
            self._write(plan.request_ids, prefill_inputs(plan, tokens[0]))
        else:
            assert isinstance(plan, Decode)
            inputs = decode_inputs(plan, [row[-1] for row in tokens])
            self._write(plan.request_ids, inputs)
            for row, request_id in enumerate(plan.request_ids):
                assert self._visible(inputs, row) == [(request_id, at) for at in range(len(tokens[row]))]
        return [TokenOutput(MADE_UP_TOKEN)] * len(plan.request_ids)

    def _write(self, request_ids: Sequence[str], inputs: ModelInputs) -> None:
        slots, positions = inputs.slot_mapping.tolist(), inputs.position_ids.tolist()
        for request_id, row_slots, row_positions in zip(request_ids, slots, positions, strict=False):
            assert min(row_slots) >= 64, "written into the padding block"
            self.slots.update({slot: (request_id, at) for slot, at in zip(row_slots, row_positions, strict=True)})

    def _visible(self, inputs: ModelInputs, row: int) -> list[tuple[str, int]]:
        table = present(inputs.block_table)[row].tolist()
        columns = range(present(inputs.left_padded_prompt_mask)[row], present(inputs.current_tkv_mask)[row])
        return [self.slots[table[column // 64] * 64 + column % 64] for column in columns]


@settings(deadline=None, max_examples=examples(25, 250))
@given(workload=workloads())
def test_every_row_reads_back_its_own_tokens_in_their_order(workload: Workload) -> None:
    core = core_with(workload.limits, RememberingCache())
    while core.steps_done <= workload.last_join:
        workload.queue(core)
        core.step()
    run(core)
    assert all(len(core.release(str(i)).tokens) == arrival.max_tokens for i, arrival in enumerate(workload.arrivals))
