"""Tests of the simulated Spyre card: its kernels, and the steps that it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.backends import sendnn
from engine.backends.errors import DeviceRefusedError
from engine.execution.simulated import attention, device, products
from engine.execution.simulated.program import CompiledFor
from engine.execution.simulated.rules import check_chunk, check_decode, check_dtypes, check_prefill
from engine.model.attention import _SHIPPED  # noqa: F401  (registers the operations of ibm-fms)
from tests.helpers.engine import is_one_sentence

LIMITS = CompiledFor(context=256, batch=4, batch_tkv=700)
BLOCKS = torch.arange(64)


def slots(*blocks: int) -> Tensor:
    return torch.cat([block * 64 + BLOCKS for block in blocks])[None]


def decode(table: list[list[int]], tkv: int, left: list[int], written: list[int] | None = None) -> None:
    rows = torch.tensor(table)
    at = torch.tensor([[slot] for slot in written]) if written else rows[:, -1:] * 64 + (tkv - 1) % 64
    check_decode(len(table), at, [tkv] * len(table), left, rows, LIMITS)


def chunk(table: list[Any], end: int, left: int, written: list[int] | None = None) -> None:
    rows = torch.tensor(table).view(-1, len(table[0]) if isinstance(table[0], list) else len(table))
    at = slots(*(written or rows[0].tolist())).repeat(len(rows), 1)
    check_chunk(len(rows), at, [end] * len(rows), [left] * len(rows), rows, LIMITS)


def compute(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, tkv: Tensor, left: Tensor, table: Tensor
) -> Tensor:
    return attention.attend(query, keys, values, scale, table, attention.seen(query, keys, tkv, left, table))


def test_the_kernels_are_the_operations_of_ibm_fms() -> None:
    torch.manual_seed(0)
    caches = [torch.randn(9, 64, 2, 16, dtype=torch.float16) for _ in range(2)]
    new = [torch.randn(3, 1, 2, 16, dtype=torch.float16) for _ in range(2)]
    query = torch.randn(3, 1, 4, 16, dtype=torch.float16)
    at = torch.tensor([[3 * 64 + 17], [5 * 64 + 17], [8 * 64 + 17]])
    table = torch.tensor([[1, 2, 3], [0, 4, 5], [6, 7, 8]])
    tkv, left = torch.full((3,), 128 + 18), torch.tensor([0, 70, 5])
    shipped = torch.ops.spyre.paged_attn_store(*new, *caches, at)
    stored = attention.store(new[0], new[1], caches[0].clone(), caches[1].clone(), at)
    assert all(torch.equal(a, b) for a, b in zip(shipped, stored, strict=True))
    right = torch.ops.spyre.paged_attn_compute(query, *shipped, 0.25, tkv, left, table)
    ours = compute(query, *stored, 0.25, tkv, left, table)
    assert torch.allclose(ours, right, atol=2e-3)


@pytest.mark.parametrize(("end", "padding"), [(128, 64), (256, 64), (192, 0)], ids=["first", "second", "no-padding"])
def test_the_kernel_for_a_chunk_is_the_operation_of_ibm_fms(end: int, padding: int) -> None:
    torch.manual_seed(0)
    caches = [torch.randn(9, 64, 2, 16, dtype=torch.float16) for _ in range(2)]
    query = torch.randn(1, 128, 4, 16, dtype=torch.float16)
    table = torch.tensor([[0, 7, 3, 5][: end // 64] if padding else [7, 3, 5]])
    arguments = 0.25, torch.tensor([end]), torch.tensor([padding]), table
    right = torch.ops.spyre.paged_attn_compute(query, *caches, *arguments)
    assert torch.allclose(compute(query, caches[0], caches[1], *arguments), right, atol=2e-3)


def test_what_keeps_to_the_rules_passes() -> None:
    check_prefill(1, 128, slots(3, 1), LIMITS)
    check_prefill(1, 256, slots(1, 2, 3, 4), LIMITS)
    decode([[1], [2]], 40, [10, 0])
    decode([[0, 1], [2, 3]], 128, [64, 63])
    lone = torch.tensor([[1, 2, 4, 3]] * 2)
    check_decode(2, torch.tensor([[255]] * 2), [256] * 2, [0] * 2, lone, CompiledFor(256, 1, 256))
    decode([[1, 2, 3, 4], [5, 6, 7, 8]], 256, [0, 0])
    chunk([0, 3, 4], 192, 64)
    chunk([0, 3, 4], 192, 64, written=[0, 0, 4])  # positions found in the cache are computed again and dropped
    chunk([0] * 2 + [1, 2, 3, 4], 384, 128)
    check_dtypes([("weight", torch.float16), ("slots", torch.int64)])


@pytest.mark.requirement("CB-DEVICE-01")
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda: check_prefill(2, 64, slots(1), LIMITS), "this prefill has 2 prompts, but the device prefills one"),
        (
            lambda: check_prefill(1, 63, slots(1), LIMITS),
            "this prefill has 63 positions, but lengths on the device must be whole blocks",
        ),
        (
            lambda: check_prefill(1, 320, slots(1, 2, 3, 4, 5), LIMITS),
            "is compiled for max_model_len 256",
        ),
        (lambda: check_prefill(1, 128, slots(0, 1), LIMITS), "writes to block 0, which is padding"),
        (
            lambda: check_prefill(1, 64, slots(1) + 1, LIMITS),
            "are not whole blocks, but the device",
        ),
        (
            lambda: check_prefill(1, 64, slots(1).flip(1), LIMITS),
            "are not whole blocks, but the device",
        ),
        (lambda: decode([[1, 2]], 128, [0]), "this decode has one row, but the device needs at least 2"),
        (lambda: decode([[1, 2, 3, 4, 5]] * 2, 257, [0, 0]), "this decode has a tkv of 257"),
        (
            lambda: decode([[1, 2]] * 5, 128, [0] * 5),
            "this decode has 5 rows, but the device is compiled for at most 4",
        ),
        (
            lambda: decode([[i, i + 1, i + 2] for i in (1, 4, 7, 10)], 176, [0] * 4),
            "4 sequences at tkv 176, but the device is compiled for a batch x tkv of at most 700",
        ),
        (lambda: decode([[1, 2, 3]] * 2, 128, [0, 0]), "has 3 blocks, but a tkv of 128 needs 2"),
        (
            lambda: decode([[1, 2], [3, 0]], 128, [0, 64]),
            "row 1 is [3, 0], but 64 tokens of left padding require block 0 in the first 1 column",
        ),
        (
            lambda: decode([[1, 2], [0, 3]], 128, [0, 63]),
            "row 1 is [0, 3], but 63 tokens of left padding require block 0 in the first 0 column",
        ),
        (
            lambda: decode([[1, 2], [3, 4]], 128, [0, 64]),
            "row 1 is [3, 4], but 64 tokens of left padding require block 0 in the first 1 column",
        ),
        (lambda: decode([[1, 2]] * 2, 128, [0, 0], [191, 63]), "writes to block 0, which is padding"),
        (lambda: chunk([[1, 2], [3, 4]], 128, 0), "this chunk has 2 prompts, but the device prefills one"),
        (
            lambda: chunk([1, 2], 127, 0),
            "this chunk ends at column 127, but lengths on the device must be whole blocks",
        ),
        (
            lambda: chunk([0, 1, 2, 3, 4, 5], 384, 64),
            "this chunk ends at column 384, with 64 columns of left padding, but",
        ),
        (lambda: chunk([1, 2, 3], 128, 0), "has 3 blocks, but a tkv of 128 needs 2"),
        (
            lambda: chunk([1, 0], 128, 64),
            "row 0 is [1, 0], but 64 tokens of left padding require block 0 in the first 1 column",
        ),
        (
            lambda: chunk([1, 2], 128, 0, written=[2, 1]),
            "writes to blocks [2, 1], but may write only to its own blocks, [1, 2]",
        ),
        (lambda: check_dtypes([("mask", torch.float32)]), "mask is float32, but the device computes in float16"),
        (lambda: check_dtypes([("weight", torch.bfloat16)]), "weight is bfloat16, but the device computes in float16"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_a_sentence(broken: Callable[[], None], says: str) -> None:
    with pytest.raises(DeviceRefusedError) as caught:
        broken()
    assert says in str(caught.value)
    assert is_one_sentence(str(caught.value))


def graph_of(function: Callable[[Tensor], Tensor]) -> torch.fx.GraphModule:
    return torch.fx.symbolic_trace(function)


def test_a_graph_without_its_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ((sendnn.CONTEXT, "256"), (sendnn.BATCH, "4"), (sendnn.BATCH_TKV, "700")):
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceRefusedError, match=r"does not use spyre_paged_attn of ibm-fms"):
        device.compile_graph(
            graph_of(lambda x: x + 1), [torch.zeros(1, dtype=torch.float16)], options={"sendnn.dynamic": True}
        )


def test_a_graph_for_unknown_limits_or_for_fixed_shapes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sendnn.CONTEXT, raising=False)
    with pytest.raises(
        DeviceRefusedError, match=r"three environment variables, so set them to integers: VLLM_DT_MAX_CONTEXT_LEN"
    ):
        device.compile_graph(
            graph_of(lambda x: x + 1), [torch.zeros(1, dtype=torch.float16)], options={"sendnn.dynamic": True}
        )
    with pytest.raises(DeviceRefusedError, match=r"but the device requires"):
        device.compile_graph(graph_of(lambda x: x + 1), [torch.zeros(1, dtype=torch.float16)])


@pytest.mark.parametrize("rows", [1, 2, 64])
@pytest.mark.parametrize("bias", [None, torch.ones(32, dtype=torch.float16)])
def test_products_are_those_of_torch_to_the_last_bit_but_one(rows: int, bias: Tensor | None) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(1, rows, 256, dtype=torch.float16)
    weight = torch.randn(32, 256, dtype=torch.float16)
    ours = products.linear(inputs, weight, bias)
    theirs = torch.nn.functional.linear(inputs, weight, bias)
    assert ours.dtype is torch.float16
    torch.testing.assert_close(ours, theirs, rtol=2**-10, atol=2**-8)
    if rows == 1:
        assert torch.equal(ours, theirs)


def test_a_compiled_graph_has_the_products_of_the_device() -> None:
    taken: list[torch.Size] = []
    linear = products.linear

    def counted(inputs: Tensor, *rest: Any) -> Tensor:
        taken.append(inputs.shape)
        return linear(inputs, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "linear", counted)
        graph = torch.fx.symbolic_trace(torch.nn.Linear(4, 4))
        for node in graph.graph.nodes:
            if node.op == "call_module":
                with graph.graph.inserting_before(node):
                    weight = graph.graph.call_function(torch.ones, ((4, 4),))
                    node.replace_all_uses_with(
                        graph.graph.call_function(torch.nn.functional.linear, (node.args[0], weight))
                    )
                graph.graph.erase_node(node)
        graph.recompile()
        device._put_in_kernels(graph)
        graph(torch.ones(3, 4))
    assert taken == [torch.Size([3, 4])]
