"""The paged attention operations, by their names in EngineConfig: ``fms`` and ``paged``.

``fms`` is the operation that ibm-fms ships, which Spyre's compiler replaces by kernels. On CPU it loops over cached
tokens in Python and copies the KV cache in every layer. ``paged`` computes the same with a few tensor operations: it
writes keys and values to their slots in place, gathers them by block table, and computes one scaled dot-product
attention. Importing this module registers ``paged`` with ibm-fms.
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
    """Return the name under which the attention operation ``fms`` or ``paged`` is registered with ibm-fms."""
    return _OURS if operation == "paged" else _SHIPPED


def attention_tensors(operation: str, inputs: ModelInputs) -> dict[str, Tensor]:
    """Return the tensors that the operation needs in this step, as keyword arguments of the model's forward."""
    names = ("mask", "slot_mapping", "block_table", "current_tkv_mask", "left_padded_prompt_mask")
    tensors = {name: tensor for name in names if (tensor := getattr(inputs, name)) is not None}
    if operation == "paged" and inputs.block_table is not None:
        tensors["visible"] = _visible_columns(inputs)
    return tensors


def _visible_columns(inputs: ModelInputs) -> Tensor:
    """Return the mask of cached columns that a position may attend to.

    It is bool ``[rows, 1, positions, blocks * block size]``, True where a position may attend to a column. The
    positions of a row are the last ones before its tkv. A position of padding attends to itself and to the padding
    before it, because a softmax over no columns is NaN. The mask is computed once per step, not once per layer.
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

    Return the keys and values to compute attention with, and the caches. A prefill attends to ``keys`` and ``values``,
    a decode to the caches.
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

    If a row has one position, as in a decode, query heads that share a key head are passed as query positions, so that
    their keys are not copied.
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
