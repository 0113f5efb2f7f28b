"""Linear layers that are quick where a step has only a few rows: a decode on CPU.

A product of a few rows with a large matrix is bound by reading the matrix, which a loop of our own does at the speed of
memory (kernels.py). Where that cannot be used, MKL reads it about twice as fast where the matrix is the left factor,
``W @ x.T``, than in ``x @ W.T``, which is how torch asks for it; from some ten rows on it is the other way round
(benchmarks/memory_floor.py measures all three). Sums are taken in another order: logits differ by some 1e-6.
"""

from copy import deepcopy
from itertools import chain
from types import MethodType

import torch
from fms.modules.head import LinearClassificationHead
from torch import Tensor, nn

from engine.optimized import kernels

FEW_ROWS = range(1, 9)


def with_shared_weights(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose layers can be changed without changing those of ``model``; the weights are the same."""
    return deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def quicken(model: nn.Module) -> None:
    """Make every linear layer of ``model`` quick with a few rows; its parameters stay where they are."""
    for module in model.modules():
        if type(module) in (nn.Linear, LinearClassificationHead):  # the same by another name; others do more
            module.forward = MethodType(_forward, module)


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    """As ``nn.Linear`` does it: ``[…, width in]`` to ``[…, width out]``."""
    rows = x.numel() // layer.in_features
    if rows not in FEW_ROWS or layer.bias is not None:
        return nn.Linear.forward(layer, x)
    return few_rows(layer.weight, x.reshape(rows, -1)).view(*x.shape[:-1], layer.out_features)


def few_rows(weight: Tensor, x: Tensor) -> Tensor:
    """``x @ weight.T`` for a weight ``[width out, width in]`` and a few rows ``[rows, width in]``."""
    if kernels.usable(weight):
        out = torch.empty(x.shape[0], weight.shape[0])
        kernels.multiply(weight.detach().numpy(), x.detach().contiguous().numpy(), out.numpy())
        return out
    # Transposed back into rows, since ibm-fms takes views of it.
    return torch.mm(weight, x.t()).t().contiguous()
