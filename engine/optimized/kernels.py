"""Loops over weights and cached keys, compiled by numba. Most of the time of a decode is spent in them.

torch's libraries use half the memory bandwidth or less for the product of a matrix with few rows, and for few queries
with many keys. These loops use nearly all of it (benchmarks/memory_floor.py, benchmarks/attention_ops.py). They sum in
another order than torch, so results differ by about 1e-7. All arrays are float32 and contiguous.

numba is part of the ``engine`` extra on platforms that it supports. Without it a step takes longer, and nothing else
changes.
"""

from collections.abc import Callable
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    import numba
except ImportError:
    numba = None

Floats = NDArray[numpy.float32]
Loop = Callable[..., None]

REORDERED = {"reassoc", "contract", "nsz"}
"""LLVM flags that let the compiler reorder sums. NaN and infinity are preserved."""


def usable(tensor: Tensor) -> bool:
    """Return whether the loops in this file can be used for a tensor.

    They can if numba is installed, torch has one thread, and the tensor is contiguous and float32.
    """
    fits = tensor.dtype is torch.float32 and tensor.is_contiguous()
    return numba is not None and fits and torch.get_num_threads() == 1


def _compiled(*arguments: str) -> Callable[[Loop], Loop]:
    """Return a decorator that compiles a loop for the numba types ``arguments``, and caches it on disk if possible."""

    def compiled(loop: Loop) -> Loop:
        if numba is None:
            return loop
        signature = f"void({', '.join(arguments)})"
        options: dict[str, Any] = {"fastmath": REORDERED, "error_model": "numpy", "nogil": True}
        try:
            made: Loop = numba.njit(signature, cache=True, **options)(loop)
        except RuntimeError:  # neither the folder of this file nor the user's cache folder is writable
            made = numba.njit(signature, **options)(loop)
        return made

    return compiled


@_compiled("float32[:,::1]", "float32[:,::1]", "float32[:,::1]")
def multiply(weight: Floats, x: Floats, out: Floats) -> None:
    """Compute ``out = x @ weight.T``.

    The shapes are ``[width out, width in]`` for ``weight``, ``[rows, width in]`` for ``x`` and ``[rows, width out]``
    for ``out``. Each row of ``weight`` is read once for four rows of ``x``.
    """
    rows = x.shape[0]
    for column in range(weight.shape[0]):
        w = weight[column]
        row = 0
        while row + 4 <= rows:
            x0, x1, x2, x3 = x[row], x[row + 1], x[row + 2], x[row + 3]
            sum0 = sum1 = sum2 = sum3 = numpy.float32(0)
            for k in range(w.size):
                sum0 += w[k] * x0[k]
                sum1 += w[k] * x1[k]
                sum2 += w[k] * x2[k]
                sum3 += w[k] * x3[k]
            out[row, column], out[row + 1, column], out[row + 2, column], out[row + 3, column] = sum0, sum1, sum2, sum3
            row += 4
        while row < rows:
            x0, sum0 = x[row], numpy.float32(0)
            for k in range(w.size):
                sum0 += w[k] * x0[k]
            out[row, column] = sum0
            row += 1


@_compiled("float32[:,:,::1]", "float32[:,:,:,::1]", "int64[:,::1]", "boolean[:,::1]", "float32", "float32[:,:,::1]")
def score(query: Floats, keys: Floats, table: Any, visible: Any, scale: float, out: Floats) -> None:
    """Compute the scaled attention scores of each query with the keys of its row.

    The score of a masked column is minus infinity.

    The shapes are ``[rows, heads, width]`` for ``query``, ``[blocks, block size, key heads, width]`` for ``keys``, and
    ``[rows, heads, columns]`` for ``out``. ``table`` is int64 ``[rows, blocks of a row]``, and ``visible`` bool
    ``[rows, columns]``. Query heads that share a key head are consecutive.
    """
    block_size, key_heads = keys.shape[1], keys.shape[2]
    shared = query.shape[1] // key_heads
    for row in range(query.shape[0]):
        for column in range(visible.shape[1]):
            if not visible[row, column]:
                out[row, :, column] = -numpy.inf
                continue
            heads = keys[table[row, column // block_size], column % block_size]
            for head in range(query.shape[1]):
                q, key, total = query[row, head], heads[head // shared], numpy.float32(0)
                for k in range(q.size):
                    total += q[k] * key[k]
                out[row, head, column] = total * scale


@_compiled("float32[:,:,::1]", "float32[:,:,:,::1]", "int64[:,::1]", "boolean[:,::1]", "float32[:,:,::1]")
def weigh(weights: Floats, values: Floats, table: Any, visible: Any, out: Floats) -> None:
    """Compute the sums of the values of each row, weighted by its attention weights.

    The shapes are ``[rows, heads, columns]`` for ``weights`` and ``[rows, heads, width]`` for ``out``. ``values`` is
    ``[blocks, block size, key heads, width]``, ``table`` int64 ``[rows, blocks of a row]``, and ``visible`` bool
    ``[rows, columns]``.
    """
    block_size, key_heads = values.shape[1], values.shape[2]
    shared = weights.shape[1] // key_heads
    out[:] = 0
    for row in range(weights.shape[0]):
        for column in range(visible.shape[1]):
            if not visible[row, column]:
                continue
            heads = values[table[row, column // block_size], column % block_size]
            for head in range(weights.shape[1]):
                weight, value, total = weights[row, head, column], heads[head // shared], out[row, head]
                for k in range(value.size):
                    total[k] += weight * value[k]
