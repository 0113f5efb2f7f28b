"""The simulated backend ``sendnn`` of ``torch.compile``. Importing this module registers it with torch.

The backend finds the inputs of a graph by the operations that use them: the token ids by the embedding, the slots by
the store operation of ibm-fms, and tkv, left padding and block table by the attention operation of ibm-fms.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import fms.utils.spyre.paged  # noqa: F401  (the operations looked for)
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from engine.backends import sendnn
from engine.backends.errors import DeviceRefusedError
from engine.execution.simulated import attention, products
from engine.execution.simulated.program import PROGRAM, CompiledFor
from engine.execution.simulated.rules import check_chunk, check_decode, check_dtypes, check_prefill

STORE = torch.ops.spyre.paged_attn_store
COMPUTE = torch.ops.spyre.paged_attn_compute


class Inputs(NamedTuple):
    """The index of each input among the arguments of a graph; -1 if the graph does not have the input."""

    ids: int
    slots: int
    tkv: int = -1
    left: int = -1
    table: int = -1


@torch._dynamo.register_backend(name=sendnn.BACKEND.name)
def compile_graph(
    graph: GraphModule, example_inputs: Sequence[Any], options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile a graph and return it as a function. Raises DeviceRefusedError if the device does not support the graph.

    Several engines may share the graph: each call is checked against the limits of the engine that calls it.
    """
    if options != dict(sendnn.BACKEND.options):
        raise DeviceRefusedError(
            f"torch.compile was called with options {options}, but the device requires {dict(sendnn.BACKEND.options)}"
        )
    CompiledFor.from_environment()  # raises an error if the limits are not set
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    check_dtypes(
        [(_plain(node.name), i.dtype) for node, i in zip(placeholders, example_inputs, strict=True) if _is_tensor(i)]
    )
    inputs = _find_inputs(graph, placeholders)
    _put_in_kernels(graph)
    run = graph.forward

    def checked(*values: Any) -> Any:
        _check(inputs, values, PROGRAM.get().limits)
        return run(*values)

    return checked


def _plain(name: str) -> str:
    """Return the name of a graph's input without torch's additions: ``mask`` for ``l_tensors_mask_``."""
    return name.removeprefix("l_").removeprefix("tensors_").rstrip("_")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _find_inputs(graph: GraphModule, placeholders: Sequence[Node]) -> Inputs:
    place = {node: index for index, node in enumerate(placeholders)}
    nodes = list(graph.graph.nodes)
    embeddings = [node for node in nodes if node.target is F.embedding]
    stores = [node for node in nodes if node.target == STORE]
    if not stores or not embeddings:
        raise DeviceRefusedError(
            "the model does not use spyre_paged_attn of ibm-fms, the only attention operation that the device "
            "supports: set attention to 'fms'"
        )
    ids, slots = place[embeddings[0].args[0]], place[stores[0].args[4]]
    computes = [node for node in nodes if node.target == COMPUTE]
    if not computes:
        return Inputs(ids, slots)
    return Inputs(ids, slots, *(place[argument] for argument in computes[0].args[4:7]))


def _put_in_kernels(graph: GraphModule) -> None:
    """Replace the operations of ibm-fms in a graph by the device's kernels, and compute masks once for all layers."""
    seen: dict[Hashable, Node] = {}
    for node in list(graph.graph.nodes):
        if node.target is F.linear:
            node.target = products.linear
        elif node.target is F.scaled_dot_product_attention:
            node.target = products.attention
        elif node.target == STORE:
            node.target = attention.store
        elif node.target == COMPUTE:
            query, keys, values, scale, tkv, left, table = node.args
            key = (tkv, left, table, _shape(query)[1:], _shape(keys)[1:])
            if key not in seen:
                with graph.graph.inserting_before(node):
                    seen[key] = graph.graph.call_function(attention.seen, (query, keys, tkv, left, table))
            node.target = attention.attend
            node.args = (query, keys, values, scale, table, seen[key])
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _shape(node: Node) -> tuple[Any, ...]:
    """Return the traced shape of a node; dynamic sizes are symbols."""
    return tuple(map(str, node.meta["example_value"].shape))


def _check(inputs: Inputs, values: Sequence[Any], limits: CompiledFor) -> None:
    rows, positions = values[inputs.ids].shape
    slots = values[inputs.slots]
    if inputs.table < 0:
        check_prefill(rows, positions, slots, limits)
        return
    tkv, left, table = values[inputs.tkv].tolist(), values[inputs.left].tolist(), values[inputs.table]
    if positions > 1:
        check_chunk(rows, slots, tkv, left, table, limits)
    else:
        check_decode(rows, slots, tkv, left, table, limits)
