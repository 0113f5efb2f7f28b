"""Functions compiled by ``torch.compile``, which engines of the same model and shape share.

torch stores compiled graphs by code object. Each TracedFunction has a code object of its own, for one signature. A
signature consists of all values that are constants in a graph. An engine calls only the functions for the signatures of
its own warm-up, so it never uses a graph that its own warm-up would not have created.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list

from engine.backends import sendnn
from engine.backends.backend import Backend

Cache = list[tuple[Tensor, Tensor]]
Functions = dict[Hashable, "TracedFunction"]

DYNAMIC: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "prefill": {"input_ids": (1,), "position_ids": (1,), "slot_mapping": (1,), "mask": (2, 3)},
    "chunk": {"block_table": (1,), "visible": (3,)},
    "part": {
        "input_ids": (1,),
        "position_ids": (1,),
        "slot_mapping": (1,),
        "block_table": (1,),
        "visible": (2, 3),
    },
    "decode": {
        "input_ids": (0,),
        "position_ids": (0,),
        "slot_mapping": (0,),
        "block_table": (0, 1),
        "current_tkv_mask": (0,),
        "left_padded_prompt_mask": (0,),
        "visible": (0, 3),
    },
}
"""The dimensions that change from step to step, by kind of step and name of the tensor. They are dynamic in a graph.
Dimensions that are neither in DYNAMIC nor in FIXED are constants."""

FIXED: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "prefill": {},
    "chunk": {"input_ids": (1,), "position_ids": (1,), "slot_mapping": (1,), "visible": (2,)},
    "part": {},
    "decode": {},
}
"""The dimensions that are constant within an engine, but differ between engines. In a graph that engines share, they
are dynamic, and each engine checks its own values. In other graphs they are constants."""

CACHE = (0,)
"""The dimensions of the tensors of the KV cache that are dynamic in a shared graph: the number of blocks."""

_SHARED: "WeakKeyDictionary[nn.Module, Functions]" = WeakKeyDictionary()


class TracedFunction:
    """A copy of ``function``, compiled by ``torch.compile``, with its own code object and therefore its own graphs."""

    def __init__(self, function: Callable[..., Any], kind: str, backend: Backend) -> None:
        assert isinstance(function, FunctionType)
        self.code = function.__code__.replace(co_name=kind)
        self.compiling: Callable[..., Any] = torch.compile(
            FunctionType(self.code, function.__globals__, kind),
            backend=backend.name,
            options=dict(backend.options) or None,
            fullgraph=True,
        )

    @cached_property
    def sealed(self) -> Callable[..., Any]:
        """Return a function that runs the compiled graphs and never compiles another graph."""
        run: Callable[..., Any] = torch._dynamo.run(self.compiling)
        return run

    @property
    def graphs(self) -> list[Any]:
        """Return torch's cache entries, one per compiled graph."""
        entries: list[Any] = _debug_get_cache_entry_list(self.code)
        return entries


def sharable(backend: Backend) -> bool:
    """Return whether engines can share graphs.

    They cannot share the graphs of a real card, which are compiled for the limits of one engine.
    """
    return backend.name != sendnn.BACKEND.name or sendnn.simulated()


def functions_for(model: nn.Module, backend: Backend) -> Functions:
    """Return the functions that earlier engines compiled for ``model``, by signature.

    Callers add new functions to the returned dict, which is kept as long as the model exists. If engines cannot share
    functions, a new empty dict is returned.
    """
    return _SHARED.setdefault(model, {}) if sharable(backend) else {}


def signature(
    backend: Backend, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]
) -> Hashable:
    """Return the key of a function in ``functions_for``: all values that are constants in a graph that engines share.

    They are the name of the backend, ``kind``, dtypes, the sizes of dimensions that are not dynamic, ``others``
    (arguments of the model that are not tensors), and the number of threads.
    """
    inputs = tuple((name, _facts(tensor, _dynamic(kind, name))) for name, tensor in tensors.items())
    caches = tuple(_facts(tensor, CACHE) for layer in cache for tensor in layer)
    return backend.name, kind, inputs, caches, tuple(others.items()), torch.get_num_threads()


def mark(kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Mark the dimensions in DYNAMIC as dynamic, and all other dimensions as constant, before a graph is compiled."""
    for name, tensor in tensors.items():
        _mark(tensor, DYNAMIC[kind].get(name, ()))


def mark_shared(kind: str, cache: Cache, tensors: Mapping[str, Tensor]) -> None:
    """Mark the dimensions in DYNAMIC, FIXED and CACHE as dynamic and all others as constant, for a shared graph.

    This function must be called before the graph is compiled.
    """
    for name, tensor in tensors.items():
        _mark(tensor, _dynamic(kind, name))
    for layer in cache:
        for tensor in layer:
            _mark(tensor, CACHE)


def fixed_sizes(kind: str, tensors: Mapping[str, Tensor]) -> dict[tuple[str, int], int]:
    """Return the sizes of the dimensions in FIXED (constant within an engine), by (name of the tensor, dimension)."""
    dimensions = FIXED[kind].items()
    return {(name, i): tensors[name].shape[i] for name, which in dimensions if name in tensors for i in which}


def _dynamic(kind: str, name: str) -> tuple[int, ...]:
    return DYNAMIC[kind].get(name, ()) + FIXED[kind].get(name, ())


def _facts(tensor: Tensor, dynamic: tuple[int, ...]) -> Hashable:
    return tensor.dtype, tuple(None if i in dynamic else size for i, size in enumerate(tensor.shape))


def _mark(tensor: Tensor, dynamic: tuple[int, ...]) -> None:
    for dimension in range(tensor.dim()):
        to = torch._dynamo.mark_dynamic if dimension in dynamic else torch._dynamo.mark_static
        to(tensor, dimension)
