"""Linear layers that are fast for few rows, as in a decode on CPU.

A product of few rows with a large matrix is bound by reading the matrix, which the loop in kernels.py does at memory
bandwidth. Where that loop cannot be used, MKL reads the matrix about twice as fast as the left factor, ``W @ x.T``, as
in ``x @ W.T``, which torch uses; from about ten rows on the latter is faster (benchmarks/memory_floor.py measures all
three). The order of summation differs: logits differ by about 1e-6.
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
    """Return a copy of ``model`` with layers of its own, which share the weights of ``model``."""
    return deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def quicken(model: nn.Module) -> None:
    """Make every linear layer of ``model`` fast for few rows; its parameters are not copied."""
    for module in model.modules():
        if type(module) in (nn.Linear, LinearClassificationHead):  # a plain linear layer, too; other subclasses do more
            module.forward = MethodType(_forward, module)


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute the forward of an ``nn.Linear``: ``[…, width in]`` to ``[…, width out]``."""
    rows = x.numel() // layer.in_features
    if rows not in FEW_ROWS or layer.bias is not None:
        return nn.Linear.forward(layer, x)
    return few_rows(layer.weight, x.reshape(rows, -1)).view(*x.shape[:-1], layer.out_features)


def few_rows(weight: Tensor, x: Tensor) -> Tensor:
    """Compute ``x @ weight.T`` for a weight ``[width out, width in]`` and few rows ``[rows, width in]``."""
    if kernels.usable(weight):
        out = torch.empty(x.shape[0], weight.shape[0])
        kernels.multiply(weight.detach().numpy(), x.detach().contiguous().numpy(), out.numpy())
        return out
    # Contiguous by row, since ibm-fms takes views of it.
    return torch.mm(weight, x.t()).t().contiguous()
