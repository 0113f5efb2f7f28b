"""The matrix products of the simulated device. Inputs and results are float16; sums are computed in float32.

torch's own float16 products on CPU sum in float32 as well, but take several times as long. The order of the sums
differs from torch's, so a result may differ in its last bit.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from engine.optimized.linear import FEW_ROWS, few_rows


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``inputs @ weight.T + bias`` in the dtype of ``inputs``.

    ``inputs`` is ``[..., width]``, ``weight`` ``[out, width]``.
    """
    rows = inputs.numel() // inputs.shape[-1]
    if rows in FEW_ROWS and bias is None:
        out = few_rows(_widened(weight), inputs.float().view(rows, -1))
        return out.to(inputs.dtype).view(*inputs.shape[:-1], -1)
    # Weights that were just converted to float32 are in the processor's cache; stored float32 copies would not be.
    return F.linear(inputs.float(), weight.float(), None if bias is None else bias.float()).to(inputs.dtype)


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: Any) -> Tensor:
    """Compute ``torch.nn.functional.scaled_dot_product_attention`` in float32 and return it in the query's dtype."""
    mask = attn_mask.float() if attn_mask is not None and attn_mask.is_floating_point() else attn_mask
    wide = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask, **others)
    return wide.to(query.dtype)


def _widened(weight: Tensor) -> Tensor:
    """Return a float32 copy of ``weight``, which is kept until the weight is changed in place."""
    version, wide = getattr(weight, "_spyre_cb_wide", (None, weight))
    if version != weight._version:
        version, wide = weight._version, weight.detach().float()
        weight._spyre_cb_wide = (version, wide)  # type: ignore[attr-defined]
    return wide
