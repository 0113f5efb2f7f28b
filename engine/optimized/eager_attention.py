"""The ``paged`` attention for eager mode: the same results as engine/model/attention.py in less time.

A compiled graph needs tensors of fixed shapes, filled up with padding. In eager mode a prefill can omit its padding. A
decode can read keys and values in place, with the loops of kernels.py, instead of copying the keys and values of all
rows into one tensor. If numba is not installed, torch computes the attention to a long context row by row, and to a
short context in one call for all rows.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy
import torch
import torch.nn.functional as F
from fms.modules.attention import register_attention_op
from torch import Tensor

from engine.model import attention
from engine.model.inputs import ModelInputs
from engine.optimized import kernels

NAME = "spyre_cb_eager_attn"
"""The name under which the attention operation of this file is registered with ibm-fms."""

LONG_CONTEXT = 8
"""The context length in blocks from which on rows are computed one by one, if the loops of kernels.py cannot be used.

For shorter contexts one call for all rows is faster.
"""


class Span(NamedTuple):
    """The location of a row's keys in the KV cache: ``length`` keys from ``offset`` on in the concatenated ``blocks``.

    If the block ids are consecutive, ``blocks`` is a slice, so that keys are read in place; else it is int64
    ``[blocks]``.
    """

    blocks: slice | Tensor
    offset: int
    length: int


def without_padding(inputs: ModelInputs) -> ModelInputs:
    """Return the inputs of a prefill without padding and mask, for the attention operation of this file.

    Inputs without a mask, such as the inputs of a decode, are returned unchanged. The prompt begins at the first
    position to which its last token may attend, and ends at the position to sample from. Without padding the mask is
    causal, so the operation needs no mask.
    """
    if inputs.mask is None:
        return inputs
    start = int(numpy.count_nonzero(inputs.mask[0, 0, -1].numpy()))
    end = inputs.input_ids.shape[1] - inputs.last_n_tokens + inputs.output_position + 1
    return replace(
        inputs,
        input_ids=inputs.input_ids[:, start:end],
        position_ids=inputs.position_ids[:, start:end],
        slot_mapping=inputs.slot_mapping[:, start:end],
        mask=None,
        last_n_tokens=1,
        output_position=0,
    )


def attention_arguments(inputs: ModelInputs, cache: Tensor) -> dict[str, Any]:
    """Return what the attention operation of this file needs, as keyword arguments of the model's forward.

    ``cache`` is the KV cache of the keys of any one layer; only its shape and its layout are read. Raises IndexError if
    a block table has a block outside the KV cache, because the loops of kernels.py do not check bounds.
    """
    if inputs.block_table is None:
        return {"slot_mapping": inputs.slot_mapping}
    last = inputs.block_table.numpy().max()
    if last >= cache.shape[0]:
        raise IndexError(f"the block table has block {last}, but the KV cache has only {cache.shape[0]} blocks")
    is_long = inputs.input_ids.shape[1] == 1 and inputs.block_table.shape[1] >= LONG_CONTEXT
    if is_long and not kernels.usable(cache):
        return {"slot_mapping": inputs.slot_mapping, "spans": spans(inputs)}
    return {
        "slot_mapping": inputs.slot_mapping,
        "block_table": inputs.block_table,
        "visible": attention._visible_columns(inputs),
    }


def spans(inputs: ModelInputs) -> tuple[Span, ...]:
    """Return, for each row, the location of the keys that its new token attends to: all keys after its left padding."""
    assert inputs.block_table is not None
    assert inputs.current_tkv_mask is not None
    assert inputs.left_padded_prompt_mask is not None
    rows = zip(
        inputs.block_table.numpy(),
        inputs.left_padded_prompt_mask.tolist(),
        inputs.current_tkv_mask.tolist(),
        strict=True,
    )
    size = inputs.block_size
    return tuple([_span(table[left // size :], left % size, tkv - left) for table, left, tkv in rows])


def _span(blocks: Any, offset: int, length: int) -> Span:
    first, count = int(blocks[0]), len(blocks)
    if count == 1 or (numpy.diff(blocks) == 1).all():
        return Span(slice(first, first + count), offset, length)
    return Span(torch.from_numpy(blocks), offset, length)


def _store(
    keys: Tensor, values: Tensor, key_cache: Tensor | None, value_cache: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write keys and values to the cache with ``attention.store``.

    ``attention.store`` treats a step without a block table as a prefill. A decode here has the argument ``spans`` in
    place of a block table, so ``spans`` are passed as the block table.
    """
    table = kwargs.get("spans") or kwargs.get("block_table")
    return attention.store(keys, values, key_cache, value_cache, slot_mapping=kwargs["slot_mapping"], block_table=table)


def _prefill(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    kv_heads: int,
    dropout: float,  # noqa: ARG001  (ibm-fms passes it)
    scale: float | None,
    **kwargs: Any,  # noqa: ARG001
) -> Tensor:
    """Compute the causal attention of a prompt without padding; all tensors are ``[1, n, heads, width]``."""
    query, keys, values = (tensor.transpose(1, 2) for tensor in (query, keys, values))
    out = F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scale, enable_gqa=heads != kv_heads)
    return out.transpose(1, 2).contiguous()


def _decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    heads: int,
    kv_heads: int,
    dropout: float,
    scale: float | None,
    **kwargs: Any,
) -> Tensor:
    """Compute the attention of new tokens to the blocks of their rows: query ``[rows, positions, heads, width]``."""
    rows, positions, _, width = query.shape
    if "spans" not in kwargs:
        if positions == 1 and kernels.usable(key_cache):
            return _in_place(query, key_cache, value_cache, kwargs["block_table"], kwargs["visible"], scale)
        return attention.decode(query, key_cache, value_cache, heads, kv_heads, dropout, scale, **kwargs)
    grouped = query.view(rows, kv_heads, heads // kv_heads, width)
    out = torch.empty_like(grouped)
    for row, span in enumerate(kwargs["spans"]):
        keys, values = (_read(cache, span) for cache in (key_cache, value_cache))
        out[row] = F.scaled_dot_product_attention(grouped[row : row + 1], keys, values, scale=scale)[0]
    return out.view(rows, 1, heads, width)


def _in_place(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, block_table: Tensor, visible: Tensor, scale: float | None
) -> Tensor:
    """Compute the attention of one position per row, with loops that read keys and values in place."""
    rows, _, heads, width = query.shape
    table, seen = block_table.numpy(), visible.view(rows, -1).numpy()
    scores, out = torch.empty(rows, heads, seen.shape[1]), torch.empty(rows, 1, heads, width)
    factor = width**-0.5 if scale is None else scale
    queries = query.detach().reshape(rows, heads, width).contiguous()
    kernels.score(queries.numpy(), key_cache.numpy(), table, seen, factor, scores.numpy())
    weights = scores.softmax(dim=-1)
    kernels.weigh(weights.numpy(), value_cache.numpy(), table, seen, out.view(rows, heads, width).numpy())
    return out


def _read(cache: Tensor, span: Span) -> Tensor:
    """Return the keys or values of a span, ``[1, heads, length, width]``. Cache: ``[blocks, 64, heads, width]``."""
    blocks = cache[span.blocks] if isinstance(span.blocks, slice) else cache.index_select(0, span.blocks)
    return blocks.view(1, -1, *cache.shape[2:])[:, span.offset : span.offset + span.length].transpose(1, 2)


def _is_prefill(**kwargs: Any) -> bool:
    return "block_table" not in kwargs and "spans" not in kwargs


register_attention_op(NAME, _store, _prefill, is_prefill_op=_is_prefill, compute_decode_op=_decode)
