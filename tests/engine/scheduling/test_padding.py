"""Tests of the functions that compute padding and tkv, at block boundaries and in combination."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for, round_up_to_block
from engine.scheduling.padding import blocks_reserved, blocks_used, padding_blocks, tkv_with_prompt

lengths = st.integers(1, 1000)


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(0, 0), (1, 1), (63, 1), (64, 1), (65, 2), (127, 2), (128, 2), (129, 3)]
)
def test_a_block_holds_64_tokens_and_a_started_one_counts(tokens: int, blocks: int) -> None:
    assert blocks_for(tokens) == blocks
    assert round_up_to_block(tokens) == blocks * 64


@pytest.mark.parametrize(
    ("tkv", "prompt_length", "grown"),
    [
        (64, 1, 64),
        (64, 63, 64),
        (64, 64, 64),
        (64, 65, 128),
        (64, 128, 128),
        (64, 129, 192),
        (70, 70, 70),
        (70, 71, 134),
        (70, 134, 134),
        (70, 135, 198),
    ],
)
def test_tkv_grows_by_whole_blocks_for_a_longer_prompt_only(tkv: int, prompt_length: int, grown: int) -> None:
    assert tkv_with_prompt(tkv, prompt_length) == grown


@pytest.mark.parametrize(
    ("tkv", "tokens", "blocks"), [(64, 64, 0), (64, 1, 0), (65, 1, 1), (128, 65, 0), (128, 64, 1), (200, 8, 3)]
)
def test_only_whole_blocks_of_left_padding_are_cut_off(tkv: int, tokens: int, blocks: int) -> None:
    assert padding_blocks(tkv, tokens) == blocks


@pytest.mark.parametrize(
    ("tkv", "prompt_length", "max_tokens", "used", "reserved"),
    [
        (64, 49, 65, 1, 2),  # the 65th token is sampled at tkv 128 and never written
        (64, 49, 66, 1, 3),
        (64, 41, 67, 1, 3),
        (64, 64, 1, 1, 1),
        (64, 64, 2, 1, 2),
        (94, 89, 37, 2, 3),  # joins in the middle of a block
        (192, 10, 20, 1, 2),  # two of three blocks would contain only padding
        (129, 1, 1, 1, 1),
    ],
)
def test_worked_examples_of_used_and_reserved_blocks(
    tkv: int, prompt_length: int, max_tokens: int, used: int, reserved: int
) -> None:
    assert blocks_used(tkv, prompt_length) == used
    assert blocks_reserved(tkv, prompt_length, max_tokens) == reserved


@given(tkv=lengths, prompt_length=lengths)
def test_after_growth_the_prompt_fits_and_no_smaller_growth_would_do(tkv: int, prompt_length: int) -> None:
    grown = tkv_with_prompt(tkv, prompt_length)
    assert grown >= prompt_length
    assert (grown - tkv) % BLOCK_SIZE == 0
    assert grown == tkv or grown - BLOCK_SIZE < prompt_length


@given(tkv=lengths, prompt_length=lengths)
def test_used_blocks_hold_the_prompt_with_little_padding(tkv: int, prompt_length: int) -> None:
    grown = tkv_with_prompt(tkv, prompt_length)
    computed = blocks_used(grown, prompt_length) * BLOCK_SIZE
    left = grown - prompt_length - padding_blocks(grown, prompt_length) * BLOCK_SIZE
    right = computed - left - prompt_length
    assert 0 <= left < BLOCK_SIZE
    assert 0 <= right < BLOCK_SIZE


@given(tkv=lengths, prompt_length=lengths, max_tokens=lengths)
def test_a_block_is_reserved_for_every_decode_that_opens_one(tkv: int, prompt_length: int, max_tokens: int) -> None:
    grown = tkv_with_prompt(tkv, prompt_length)
    opened = sum(at % BLOCK_SIZE == 0 for at in range(grown, grown + max_tokens - 1))
    assert blocks_reserved(grown, prompt_length, max_tokens) == blocks_used(grown, prompt_length) + opened


@given(tkv=lengths, prompt_length=lengths, max_tokens=lengths, shift=st.integers(0, 5))
def test_whole_blocks_of_padding_for_everybody_change_no_count(
    tkv: int, prompt_length: int, max_tokens: int, shift: int
) -> None:
    grown = tkv_with_prompt(tkv, prompt_length)
    shifted = grown + shift * BLOCK_SIZE
    assert blocks_used(shifted, prompt_length) == blocks_used(grown, prompt_length)
    assert blocks_reserved(shifted, prompt_length, max_tokens) == blocks_reserved(grown, prompt_length, max_tokens)
