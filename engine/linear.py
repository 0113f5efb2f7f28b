"""Linear layers that are quick where a step has only a few rows: a decode on CPU.

A product of a few rows with a large matrix is bound by reading the matrix. MKL reads it about twice as fast where the
matrix is the left factor, ``W @ x.T``, than in ``x @ W.T``, which is how torch asks for it; from some ten rows on it is
the other way round (benchmarks/memory_floor.py measures both). Sums are taken in another order: logits differ by some
1e-6.
"""

import torch
from torch import Tensor, nn

FEW_ROWS = range(2, 9)
"""One row is a product of matrix and vector either way."""


class FewRowsLinear(nn.Linear):
    """``nn.Linear`` with the same parameters, for ``[…, width in]`` to ``[…, width out]``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        rows = input.numel() // self.in_features
        if rows not in FEW_ROWS or self.bias is not None:
            return super().forward(input)
        # Transposed back into rows, since ibm-fms takes views of it.
        out = torch.mm(self.weight, input.reshape(rows, -1).t()).t().contiguous()
        return out.view(*input.shape[:-1], self.out_features)


def quicken(model: nn.Module) -> None:
    """Make every linear layer of ``model`` one that is quick with a few rows; its parameters stay where they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRowsLinear
