"""Linear layers for a few rows: the same products, the same parameters."""

import pytest
import torch
from torch import nn

from engine.linear import FewRowsLinear, quicken


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 1), (8, 1), (9, 1), (1, 4), (3, 5), (1, 64)], ids=str)
def test_products_are_those_of_a_usual_layer(shape, bias):
    usual = nn.Linear(24, 40, bias=bias)
    quick = nn.Sequential(nn.Linear(24, 40, bias=bias))
    quick[0].load_state_dict(usual.state_dict())
    quicken(quick)
    assert type(quick[0]) is FewRowsLinear
    x = torch.randn(*shape, 24)
    out = quick(x)
    assert out.is_contiguous()
    torch.testing.assert_close(out, usual(x), atol=1e-6, rtol=1e-5)


def test_weights_that_are_tied_stay_so():
    model = nn.ModuleDict({"embedding": nn.Embedding(10, 6), "head": nn.Linear(6, 10, bias=False)})
    model["head"].weight = model["embedding"].weight
    quicken(model)
    assert model["head"].weight is model["embedding"].weight
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight"]
