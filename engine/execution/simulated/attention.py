"""The kernels with which the simulated device replaces the two attention operations of ibm-fms.

They compute the same results without a loop over tokens. The compiler of a real card also replaces these operations by
kernels. ``tests/engine/execution/test_simulated_spyre.py`` compares the kernels with the operations of ibm-fms.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from engine.execution.simulated import products


def store(keys: Tensor, values: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Write keys and values ``[rows, positions, heads, width]`` to their slots in place, and return the caches."""
    for cache, new in ((key_cache, keys), (value_cache, values)):
        cache.view(-1, *cache.shape[2:]).index_copy_(0, slots.reshape(-1), new.reshape(-1, *new.shape[2:]))
    return key_cache, value_cache


class Seen(NamedTuple):
    """The two masks of a step, which are the same in each layer. Both are bool.

    ``padding`` ``[rows, positions, 1]`` is True for positions of padding. ``mask`` ``[rows, 1, group * positions,
    columns]`` is True where a position may attend to a column of the row's blocks; ``group`` is the number of query
    heads per key head.
    """

    padding: Tensor
    mask: Tensor


def seen(query: Tensor, key_cache: Tensor, current_tkv: Tensor, left_padding: Tensor, block_table: Tensor) -> Seen:
    """Return the masks for the positions of ``query``. The values of ``query`` and ``key_cache`` are not used."""
    positions = query.shape[1]
    group = query.shape[2] // key_cache.shape[2]
    columns = torch.arange(block_table.shape[1] * key_cache.shape[1])
    own = current_tkv[:, None] - positions + torch.arange(positions)
    padding = (own < left_padding[:, None])[:, :, None]
    # Padding attends to itself: a softmax over no position is NaN.
    mask = (columns <= own[:, :, None]) & ((columns >= left_padding[:, None, None]) | padding)
    return Seen(padding, mask[:, None].repeat(1, 1, group, 1))


def attend(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, scale: float, block_table: Tensor, visible: Seen
) -> Tensor:
    """Compute the attention of ``query``, the last positions of each row, to all columns of the row's blocks.

    ``query`` and the result are ``[rows, positions, heads, width]``. A decode has one position per row, a chunk of a
    prompt has one row. The output of padding is zero. Query heads that share a key head are passed as query positions,
    so that their keys are not copied.
    """
    rows, positions, heads, width = query.shape
    kv_heads = key_cache.shape[2]
    group = heads // kv_heads
    keys, values = (
        cache.index_select(0, block_table.reshape(-1)).view(rows, -1, kv_heads, width).transpose(1, 2)
        for cache in (key_cache, value_cache)
    )
    grouped = query.view(rows, positions, kv_heads, group, width).permute(0, 2, 3, 1, 4)
    grouped = grouped.reshape(rows, kv_heads, group * positions, width)
    out = products.attention(grouped, keys, values, visible.mask, scale=scale)
    out = out.view(rows, kv_heads, group, positions, width).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, positions, heads, width).masked_fill(visible.padding[..., None], 0)
