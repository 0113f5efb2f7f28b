"""Tests of the fast attention of the eager backend: the same results as ibm-fms, and prefills without padding."""

import random

import pytest
import torch
from fms.modules.attention import get_attention_type

from engine.model.inputs import decode_inputs, prefill_inputs
from engine.optimized import eager_attention
from engine.optimized.eager_attention import LONG_CONTEXT, Span, attention_arguments, spans, without_padding
from engine.scheduling.plan import Decode, Prefill
from tests.helpers.narrow import present

WIDTH = 16


def table(rng: random.Random, pool: list[int], blocks: int, scattered: bool) -> tuple[int, ...]:
    taken = [pool.pop(0) for _ in range(blocks)]
    if scattered:
        rng.shuffle(taken)
    return tuple(taken)


def plan_of(blocks: int, scattered: bool) -> Decode:
    """Return the plan of a decode of three rows at a tkv within block number ``blocks``.

    The rows have no padding, less than a block of padding, and (with two blocks or more) more than a block of padding.
    """
    rng, pool = random.Random(blocks), list(range(1, 40))
    tkv = blocks * 64 - 5
    left = (0, 13, 64 + 20 if blocks > 1 else 20)
    tables = tuple(table(rng, pool, blocks - padding // 64, scattered) for padding in left)
    return Decode(("a", "b", "c"), tkv, left, tables)


@pytest.mark.parametrize("scattered", [False, True], ids=["in order", "scattered"])
@pytest.mark.parametrize("blocks", [1, 3, LONG_CONTEXT, LONG_CONTEXT + 1])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (9, 3), (4, 1)])
def test_a_decode_attends_as_with_the_shipped_operation(
    heads: int, kv_heads: int, blocks: int, scattered: bool, loops: str
) -> None:
    torch.manual_seed(blocks)
    inputs = decode_inputs(plan_of(blocks, scattered), (1, 2, 3))
    cache = [torch.randn(40, 64, kv_heads, WIDTH) for _ in range(2)]
    query = torch.randn(3, 1, heads, WIDTH)
    decode = get_attention_type(attn_name=eager_attention.NAME)["compute_decode"]
    own = decode(query, *cache, heads, kv_heads, 0.0, 0.3, **attention_arguments(inputs, cache[0]))
    shipped = torch.ops.spyre.paged_attn_compute(
        query, *cache, 0.3, inputs.current_tkv_mask, inputs.left_padded_prompt_mask, inputs.block_table
    )
    assert own.shape == shipped.shape
    torch.testing.assert_close(own, shipped, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("blocks", [3, LONG_CONTEXT])
def test_keys_and_values_are_stored_as_by_the_shipped_operation(blocks: int, loops: str) -> None:
    inputs = decode_inputs(plan_of(blocks, scattered=True), (1, 2, 3))
    cache = [torch.randn(40, 64, 2, WIDTH) for _ in range(2)]
    before = [tensor.clone() for tensor in cache]
    new = [torch.randn(3, 1, 2, WIDTH) for _ in range(2)]
    store = get_attention_type(attn_name=eager_attention.NAME)["store"]
    *_, keys, values = store(*new, *cache, **attention_arguments(inputs, cache[0]))
    assert keys is cache[0]
    assert values is cache[1]
    shipped = torch.ops.spyre.paged_attn_store(*new, *before, inputs.slot_mapping)
    assert all(map(torch.equal, cache, shipped))


@pytest.mark.parametrize("loops", ["numba"], indirect=True)
def test_what_no_row_sees_is_not_read(loops: str) -> None:
    """Fill the blocks and positions that no row attends to with NaN: the output must not change.

    These are blocks of no row, positions after a row's tkv, and its left padding.
    """
    inputs = decode_inputs(plan_of(2, scattered=True), (1, 2, 3))
    cache = [torch.randn(40, 64, 2, WIDTH) for _ in range(2)]
    query = torch.randn(3, 1, 4, WIDTH)
    decode = get_attention_type(attn_name=eager_attention.NAME)["compute_decode"]
    arguments = attention_arguments(inputs, cache[0])
    clean = decode(query, *cache, 4, 2, 0.0, 0.3, **arguments)
    seen = torch.zeros(40, 64, dtype=torch.bool)
    for blocks, visible in zip(present(inputs.block_table), arguments["visible"].view(3, -1, 64), strict=True):
        seen[blocks] |= visible
    for tensor in cache:
        tensor[~seen] = torch.nan
    assert torch.equal(decode(query, *cache, 4, 2, 0.0, 0.3, **arguments), clean)


def test_a_block_that_is_not_there_is_an_error(loops: str) -> None:
    inputs = decode_inputs(Decode(("a", "b"), 70, (0, 0), ((1, 2), (3, 40))), (1, 2))
    cache = [torch.randn(40, 64, 2, WIDTH) for _ in range(2)]
    decode = get_attention_type(attn_name=eager_attention.NAME)["compute_decode"]
    with pytest.raises(IndexError):
        decode(torch.randn(2, 1, 4, WIDTH), *cache, 4, 2, 0.0, 0.3, **attention_arguments(inputs, cache[0]))


def test_blocks_that_follow_each_other_are_read_where_they_are() -> None:
    plan = Decode(("a", "b"), 9 * 64, (0, 70), (tuple(range(3, 13)), (20, 21, 19, 30, 31, 32, 33, 34, 35)))
    first, second = spans(decode_inputs(plan, (1, 2)))
    assert first == Span(slice(3, 13), 0, 9 * 64 + 1)
    assert isinstance(second.blocks, torch.Tensor)
    assert (second.blocks.tolist(), second.offset, second.length) == ([*plan.block_tables[1]], 6, 9 * 64 + 1 - 70)


@pytest.mark.parametrize(("left", "length"), [(0, 64), (0, 1), (60, 10), (63, 1), (5, 190)])
def test_a_prefill_without_its_padding_is_the_prompt(left: int, length: int) -> None:
    prompt = tuple(range(100, 100 + length))
    blocks = tuple(range(7, 7 + -(-(left + length) // 64)))
    whole = prefill_inputs(Prefill("a", length, left + length, left, blocks), prompt)
    cut = without_padding(whole)
    assert cut.input_ids.tolist() == [[*prompt]]
    assert cut.position_ids.tolist() == [[*range(length)]]
    assert torch.equal(cut.slot_mapping, whole.slot_mapping[:, left : left + length])
    assert (cut.mask, cut.last_n_tokens, cut.output_position) == (None, 1, 0)


@pytest.mark.parametrize("positions", [1, 2, 70])
def test_a_prompt_attends_as_under_a_causal_mask(positions: int) -> None:
    query, keys, values = (torch.randn(1, positions, heads, WIDTH) for heads in (6, 2, 2))
    compute = get_attention_type(attn_name=eager_attention.NAME)["compute_prefill"]
    own = compute(query, keys, values, 6, 2, 0.0, 0.3, slot_mapping=None)
    scores = torch.einsum("qhw,khw->hqk", query[0] * 0.3, keys[0].repeat_interleave(3, dim=1))
    scores += torch.full((positions, positions), -torch.inf).triu(1)
    wanted = torch.einsum("hqk,khw->qhw", scores.softmax(-1), values[0].repeat_interleave(3, dim=1))
    torch.testing.assert_close(own[0], wanted, atol=2e-6, rtol=1e-5)
