"""Linear layers that are fast for few rows, as in a decode on CPU.

The product of few rows with a large matrix W is limited by the time to read W. The loop in kernels.py reads W at memory
bandwidth. If that loop cannot be used, ``W @ x.T`` is computed: MKL reads W about twice as fast for it as for
``x @ W.T``, which torch uses. From about ten rows on ``x @ W.T`` is faster. benchmarks/memory_floor.py measures all
three. They sum in different orders, so logits differ by about 1e-6.
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
    """Return a copy of ``model`` whose layers can be changed. The copy uses the weights of ``model`` in memory."""
    return deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def quicken(model: nn.Module) -> None:
    """Replace the forward of every linear layer of ``model`` by one that is fast for few rows."""
    for module in model.modules():
        # LinearClassificationHead computes the same as nn.Linear; other subclasses do more.
        if type(module) in (nn.Linear, LinearClassificationHead):
            module.forward = MethodType(_forward, module)


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute the forward of an ``nn.Linear`` for ``x`` ``[…, width in]``. The result is ``[…, width out]``."""
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
    # The result must be contiguous by row, because ibm-fms takes views of it.
    return torch.mm(weight, x.t()).t().contiguous()
