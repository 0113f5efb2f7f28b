"""Tests of the input tensors of prefill chunks: the positions of tokens, and the slots that must not be written."""

import torch

from engine.model.chunk_inputs import aligned_decode_inputs, chunk_inputs
from engine.model.inputs import ModelInputs
from engine.scheduling.plan import AlignedDecode, PrefillChunk
from tests.helpers.narrow import present


def padding_of(made: ModelInputs) -> tuple[list[int], list[int]]:
    """Return two lists with an element for each row: tkv, and left padding."""
    return present(made.current_tkv_mask).tolist(), present(made.left_padded_prompt_mask).tolist()


def blocks_of(slots: torch.Tensor) -> list[int]:
    """Return the blocks that a slot mapping writes. Fails unless it writes whole blocks of 64 slots in order."""
    rows = slots.view(-1, 64)
    assert torch.equal(rows - rows[:, :1], torch.arange(64).expand_as(rows))
    return (rows[:, 0] // 64).tolist()


def test_a_first_chunk_begins_with_whole_blocks_of_padding() -> None:
    made = chunk_inputs(PrefillChunk("a", 0, 128, 64, 0, tuple(range(100, 164)), (7,), 0, False))
    assert made.input_ids[0].tolist() == [0] * 64 + list(range(100, 164))
    assert made.position_ids[0].tolist() == [0] * 64 + list(range(64))
    assert present(made.block_table).tolist() == [[0, 7]]
    assert blocks_of(made.slot_mapping) == [0, 7]
    assert padding_of(made) == ([128], [64])


def test_a_last_chunk_ends_with_padding_and_is_sampled_at_its_last_token() -> None:
    made = chunk_inputs(PrefillChunk("a", 1, 128, 64, 64, tuple(range(70)), (7, 5, 9), 0, True))
    assert made.position_ids[0, :70].tolist() == list(range(64, 134))
    assert made.position_ids[0, 70:].tolist() == [0] * 58
    assert present(made.block_table).tolist() == [[0, 7, 5, 9]]
    assert blocks_of(made.slot_mapping) == [5, 9]
    assert made.output_position == 133 % 64


def test_blocks_that_were_found_are_read_and_never_written() -> None:
    """Compute the second chunk of a prompt, two of whose three blocks were found in the prefix cache.

    The step reads the found blocks. At their positions, it writes to the padding block (0) instead.
    """
    made = chunk_inputs(PrefillChunk("a", 1, 192, 64, 128, tuple(range(192)), (3, 4, 5, 6, 7, 8), 4, False))
    assert present(made.block_table).tolist() == [[0, 3, 4, 5, 6, 7]]
    assert blocks_of(made.slot_mapping) == [0, 0, 7]


def test_rows_of_a_decode_are_padded_by_whole_blocks() -> None:
    plan = AlignedDecode(("a", "b"), (130, 20), (131, 149), ((4, 5, 6), (9,)))
    made = aligned_decode_inputs(plan, (11, 12))
    assert present(made.block_table).tolist() == [[4, 5, 6], [0, 0, 9]]
    assert made.slot_mapping.tolist() == [[6 * 64 + 2], [9 * 64 + 20]]
    assert made.position_ids.tolist() == [[130], [20]]
    assert padding_of(made) == ([131, 149], [0, 128])


def test_a_lone_row_is_doubled_and_only_the_first_comes_out() -> None:
    made = aligned_decode_inputs(AlignedDecode(("a",), (64,), (65,), ((4, 5),)), (11,))
    assert made.input_ids.tolist() == [[11], [11]]
    assert made.output_rows == 1
