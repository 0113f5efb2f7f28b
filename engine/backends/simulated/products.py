"""The matrix products of the simulated device: float16 in and out, summed in float32.

Torch's own float16 products on CPU sum in float32 as well, but take several times as long. The order of the sums is
another one, so a result may differ in its last bit.
"""

import torch.nn.functional as F
from torch import Tensor

FEWEST_ROWS = 2
"""From so many rows on widening the weights pays."""


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs`` ``[..., width]`` times ``weight`` ``[out, width]`` transposed, plus ``bias``, in the inputs' dtype."""
    if inputs.numel() < FEWEST_ROWS * inputs.shape[-1]:
        return F.linear(inputs, weight, bias)
    wide = F.linear(inputs.float(), weight.float(), None if bias is None else bias.float())
    return wide.to(inputs.dtype)
