"""Functions traced by ``torch.compile``: stored with the model and shared by engines of the same shape.

torch stores graphs by code object. Each function here has a code object of its own, for one signature, which is
everything that is compiled into a graph as a constant. An engine only calls the functions of its own warm-up's
signatures, so it never uses a graph that its own warm-up would not have created.
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
"""Dimensions that change from step to step: they are dynamic in a graph. Other dimensions are constants."""

FIXED: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "prefill": {},
    "chunk": {"input_ids": (1,), "position_ids": (1,), "slot_mapping": (1,), "visible": (2,)},
    "part": {},
    "decode": {},
}
"""Dimensions that differ between engines and are constant within one: they are dynamic in a shared graph, and each
engine checks its own values. Where graphs are not shared they are constants."""

CACHE = (0,)
"""The same for the tensors of the KV cache: the number of blocks."""

_SHARED: "WeakKeyDictionary[nn.Module, Functions]" = WeakKeyDictionary()


class TracedFunction:
    """``function`` compiled by ``torch.compile``, with a code object, and therefore graphs, of its own."""

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
        """The same graphs as a function that never compiles."""
        run: Callable[..., Any] = torch._dynamo.run(self.compiling)
        return run

    @property
    def graphs(self) -> list[Any]:
        """torch's cache entries, one per graph."""
        entries: list[Any] = _debug_get_cache_entry_list(self.code)
        return entries


def sharable(backend: Backend) -> bool:
    """Return whether engines can share graphs; on a real card they cannot, since an engine's limits are compiled in."""
    return backend.name != sendnn.BACKEND.name or sendnn.simulated()


def functions_for(model: nn.Module, backend: Backend) -> Functions:
    """Return the functions traced for ``model``, by signature; an empty mapping where engines cannot share them.

    Functions live as long as the model does.
    """
    return _SHARED.setdefault(model, {}) if sharable(backend) else {}


def signature(
    backend: Backend, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]
) -> Hashable:
    """Return what a shared graph of ``kind`` is specialised for: dtypes, constant dimensions, constants, threads."""
    inputs = tuple((name, _facts(tensor, _dynamic(kind, name))) for name, tensor in tensors.items())
    caches = tuple(_facts(tensor, CACHE) for layer in cache for tensor in layer)
    return backend.name, kind, inputs, caches, tuple(others.items()), torch.get_num_threads()


def mark(kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Mark the dimensions that change from step to step as dynamic, before tracing."""
    for name, tensor in tensors.items():
        _mark(tensor, DYNAMIC[kind].get(name, ()))


def mark_shared(kind: str, cache: Cache, tensors: Mapping[str, Tensor]) -> None:
    """Mark also the dimensions that differ between engines as dynamic."""
    for name, tensor in tensors.items():
        _mark(tensor, _dynamic(kind, name))
    for layer in cache:
        for tensor in layer:
            _mark(tensor, CACHE)


def fixed_sizes(kind: str, tensors: Mapping[str, Tensor]) -> dict[tuple[str, int], int]:
    """Return the sizes that are constant over an engine's steps of ``kind``, by tensor name and dimension."""
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
