"""Functions that ``torch.compile`` traces: kept with the model, and shared by the engines that run the same shape.

torch keeps graphs by code object. Each function here has a code object of its own, for one signature: whatever is
compiled into a graph. An engine calls the functions of the signatures of its own warm-up and no others, so it never
meets a graph that its warm-up would not have made.
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
"""Dimensions that change from step to step: a graph is compiled for all their values. Others are compiled in."""

FIXED: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "prefill": {},
    "chunk": {"input_ids": (1,), "position_ids": (1,), "slot_mapping": (1,), "visible": (2,)},
    "part": {},
    "decode": {},
}
"""Dimensions that change from engine to engine, and in an engine never: a shared graph is compiled for all their
values, and each engine checks its own. Where graphs are not shared they are compiled in."""

CACHE = (0,)
"""The same of the tensors of a cache: the number of blocks."""

_SHARED: "WeakKeyDictionary[nn.Module, Functions]" = WeakKeyDictionary()


class TracedFunction:
    """``function`` by ``torch.compile``, with a code object and so with graphs of its own."""

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
        """The same graphs, without compiling any more."""
        run: Callable[..., Any] = torch._dynamo.run(self.compiling)
        return run

    @property
    def graphs(self) -> list[Any]:
        """torch's cache entries, one a graph."""
        entries: list[Any] = _debug_get_cache_entry_list(self.code)
        return entries


def sharable(backend: Backend) -> bool:
    """Whether engines can share graphs: a real card compiles an engine's limits into its graphs."""
    return backend.name != sendnn.BACKEND.name or sendnn.simulated()


def functions_for(model: nn.Module, backend: Backend) -> Functions:
    """By signature, what has been traced for engines that run ``model``; for this engine alone where it cannot share.

    Functions live as long as the model does.
    """
    return _SHARED.setdefault(model, {}) if sharable(backend) else {}


def signature(
    backend: Backend, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]
) -> Hashable:
    """All that a shared graph of ``kind`` is compiled for: dtypes, dimensions of one size, constants, threads."""
    inputs = tuple((name, _facts(tensor, _dynamic(kind, name))) for name, tensor in tensors.items())
    caches = tuple(_facts(tensor, CACHE) for layer in cache for tensor in layer)
    return backend.name, kind, inputs, caches, tuple(others.items()), torch.get_num_threads()


def mark(kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Name the dimensions that change from step to step to torch, before it traces."""
    for name, tensor in tensors.items():
        _mark(tensor, DYNAMIC[kind].get(name, ()))


def mark_shared(kind: str, cache: Cache, tensors: Mapping[str, Tensor]) -> None:
    """Name also those that change from engine to engine."""
    for name, tensor in tensors.items():
        _mark(tensor, _dynamic(kind, name))
    for layer in cache:
        for tensor in layer:
            _mark(tensor, CACHE)


def fixed_sizes(kind: str, tensors: Mapping[str, Tensor]) -> dict[tuple[str, int], int]:
    """Sizes that an engine's steps of ``kind`` keep, by name and dimension."""
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
