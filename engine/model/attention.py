"""Paged attention operations registered with ibm-fms, named as in EngineConfig.

``fms`` is the operation that ibm-fms ships and Spyre's compiler replaces: it loops over cached tokens in Python and
copies the cache in every layer. ``paged`` computes the same with a few tensor operations: it stores in place by slot,
gathers by block table and runs one scaled dot-product attention.
"""

from typing import Any

import fms.utils.spyre.paged  # noqa: F401  (registers the shipped operation)
import numpy
import torch
import torch.nn.functional as F
from fms.modules.attention import register_attention_op
from torch import Tensor

from engine.model.inputs import ModelInputs

_OURS = "spyre_cb_paged_attn"
_SHIPPED = "spyre_paged_attn"


def attention_name(operation: str) -> str:
    """Return the name under which the operation is registered with ibm-fms."""
    return _OURS if operation == "paged" else _SHIPPED


def attention_tensors(operation: str, inputs: ModelInputs) -> dict[str, Tensor]:
    """Return the keyword arguments of a model's forward for the operation, without those missing in the step."""
    names = ("mask", "slot_mapping", "block_table", "current_tkv_mask", "left_padded_prompt_mask")
    tensors = {name: tensor for name in names if (tensor := getattr(inputs, name)) is not None}
    if operation == "paged" and inputs.block_table is not None:
        tensors["visible"] = _visible_columns(inputs)
    return tensors


def _visible_columns(inputs: ModelInputs) -> Tensor:
    """Return which cached columns a position may attend to: bool ``[rows, 1, positions, blocks * block size]``.

    The positions of a row are the last ones before its tkv. Padding attends to the padding before it and to itself,
    since a softmax over no position is NaN. Computed once per step instead of once per layer.
    """
    assert inputs.block_table is not None
    assert inputs.current_tkv_mask is not None
    assert inputs.left_padded_prompt_mask is not None
    columns = numpy.arange(inputs.block_table.shape[1] * inputs.block_size)
    positions = inputs.input_ids.shape[1]
    own = inputs.current_tkv_mask.numpy()[:, None, None] - numpy.arange(positions, 0, -1)[None, :, None]
    padding = inputs.left_padded_prompt_mask.numpy()[:, None, None]
    visible = columns <= own
    seen = columns >= padding
    if positions > 1:
        seen = seen | (own < padding)
    visible &= seen
    return torch.from_numpy(visible[:, None])


def store(
    keys: Tensor, values: Tensor, key_cache: Tensor | None, value_cache: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Write keys and values ``[rows, positions, heads, width]`` to their slots, in place.

    Return the tensors to compute on: a prefill uses the projected keys and values, a decode the cache.
    """
    assert key_cache is not None
    assert value_cache is not None
    slots = kwargs["slot_mapping"].view(-1)
    for cache, new in ((key_cache, keys), (value_cache, values)):
        cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, new.reshape(-1, *new.shape[2:]))
    if kwargs.get("block_table") is None:
        return keys, values, key_cache, value_cache
    return key_cache, value_cache, key_cache, value_cache


def _prefill(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    kv_heads: int,
    dropout: float,  # noqa: ARG001  (ibm-fms passes it)
    scale: float | None,
    **kwargs: Any,
) -> Tensor:
    """Compute the attention of a prompt to itself; all tensors are ``[1, n, heads, width]``."""
    keys, values = (tensor.repeat_interleave(heads // kv_heads, dim=2) for tensor in (keys, values))
    query, keys, values = (tensor.transpose(1, 2) for tensor in (query, keys, values))
    out = F.scaled_dot_product_attention(query, keys, values, attn_mask=kwargs["mask"], scale=scale)
    return out.transpose(1, 2).contiguous()


def decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    heads: int,
    kv_heads: int,
    dropout: float,  # noqa: ARG001  (ibm-fms passes it)
    scale: float | None,
    **kwargs: Any,
) -> Tensor:
    """Compute the attention of new tokens to the blocks of their rows: query ``[rows, positions, heads, width]``.

    Where a row has one position, as in a decode, the query heads that share a key head take the place of query
    positions, so that no key is copied.
    """
    rows, positions, _, width = query.shape
    table = kwargs["block_table"]
    keys, values = (
        cache.index_select(0, table.view(-1)).view(rows, -1, kv_heads, width).transpose(1, 2)
        for cache in (key_cache, value_cache)
    )
    if positions > 1:
        keys, values = (tensor.repeat_interleave(heads // kv_heads, dim=1) for tensor in (keys, values))
        attended = F.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, attn_mask=kwargs["visible"], scale=scale
        )
        return attended.transpose(1, 2).contiguous()
    grouped = query.view(rows, kv_heads, heads // kv_heads, width)
    out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=kwargs["visible"], scale=scale)
    return out.reshape(rows, 1, heads, width)


def _is_prefill(**kwargs: Any) -> bool:
    return kwargs.get("block_table") is None


# Importing this module registers both operations; ibm-fms raises if a name is registered twice.
register_attention_op(_OURS, store, _prefill, is_prefill_op=_is_prefill, compute_decode_op=decode)
