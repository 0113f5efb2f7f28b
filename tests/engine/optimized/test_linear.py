"""Tests of the linear layers for few rows: they compute the same products, with the same parameters, as torch's."""

import pytest
import torch
from fms.modules.head import LinearClassificationHead
from torch import nn

from engine.optimized import kernels, linear
from engine.optimized.linear import few_rows, quicken


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 1), (8, 1), (9, 1), (1, 4), (3, 5), (1, 64)], ids=str)
@pytest.mark.parametrize("layer", [nn.Linear, LinearClassificationHead])
def test_products_equal_those_of_a_plain_layer(
    layer: type[nn.Linear], shape: tuple[int, int], bias: bool, loops: str
) -> None:
    default = layer(24, 40, bias=bias)
    quick = nn.Sequential(layer(24, 40, bias=bias))
    quick[0].load_state_dict(default.state_dict())
    quicken(quick)
    assert vars(quick[0])["forward"].__func__ is linear._forward
    x = torch.randn(*shape, 24)
    out = quick(x)
    assert out.is_contiguous()
    torch.testing.assert_close(out, default(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", range(1, 9))
def test_rows_are_multiplied_with_a_weight_of_any_width(rows: int, loops: str) -> None:
    for width in (1, 15, 16, 17, 64, 100):
        weight, x = torch.randn(7, width), torch.randn(rows, width)
        torch.testing.assert_close(few_rows(weight, x), x @ weight.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_stays_none(value: float, loops: str) -> None:
    weight, x = torch.ones(3, 20), torch.ones(4, 20)
    x[2, 5] = value
    out = few_rows(weight, x)
    torch.testing.assert_close(out, x @ weight.T, equal_nan=True)


@pytest.mark.parametrize("change", ["half", "transposed", "rows apart"])
def test_other_tensors_are_multiplied_too(change: str, loops: str) -> None:
    weight, x = torch.randn(16, 16), torch.randn(4, 3, 16)[:, 1]
    if change == "half":
        weight, x = weight.half(), x.half()
    elif change == "transposed":
        weight = weight.t()
    torch.testing.assert_close(few_rows(weight, x), x @ weight.T, atol=1e-2, rtol=1e-2)


def test_two_threads_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(2, 2)
    assert kernels.usable(weight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not kernels.usable(weight)


def test_layers_that_do_more_are_left_alone() -> None:
    class More(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    more = More(4, 4, bias=False)
    model = nn.Sequential(more)
    quicken(model)
    x = torch.randn(2, 4)
    torch.testing.assert_close(model(x), x @ more.weight.T + 1)


def test_weights_that_are_tied_stay_so() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(10, 6), "head": nn.Linear(6, 10, bias=False)})
    model["head"].weight = model["embedding"].weight
    quicken(model)
    assert model["head"].weight is model["embedding"].weight
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight"]
