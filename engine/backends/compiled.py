"""A model that is compiled in a warm-up, and never after it."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.guards import get_guard_fail_reason
from torch.fx.experimental import _config as symbolic_shapes

from engine.backends import sendnn
from engine.backends.backend import Backend
from engine.backends.errors import RecompileError

DYNAMIC: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "prefill": {"input_ids": (1,), "position_ids": (1,), "slot_mapping": (1,), "mask": (2, 3)},
    "chunk": {"block_table": (1,), "visible": (3,)},
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


class CompiledModel:
    """``model`` by ``torch.compile``: a function for prefills, one for chunks of prefills, one for decodes.

    Until ``seal`` whatever comes is compiled; after it, what does not fit a graph is a RecompileError.
    """

    def __init__(self, model: torch.nn.Module, backend: Backend) -> None:
        if backend.name == sendnn.BACKEND.name:
            sendnn.register()
        self._model = model
        # Graphs are kept by code object: with some of its own, an engine never meets the graphs of another.
        self._codes = {kind: _forward.__code__.replace(co_name=kind) for kind in DYNAMIC}
        self._functions: dict[str, Callable[..., Any]] = {
            kind: torch.compile(
                FunctionType(code, globals(), kind),
                backend=backend.name,
                options=dict(backend.options) or None,
                fullgraph=True,
            )
            for kind, code in self._codes.items()
        }
        self._sealed = False
        self.recompiles = 0

    @property
    def graphs(self) -> int:
        """How many have been compiled."""
        return sum(len(_debug_get_cache_entry_list(code)) for code in self._codes.values())

    def __call__(self, kind: str, cache: list[Any], tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
        """One forward of ``kind`` prefill, chunk or decode: what the model returns.

        ``tensors`` are its arguments by name, ``others`` those that are none. Raises RecompileError and
        DeviceRefusedError.
        """
        if not self._sealed:
            _mark(DYNAMIC[kind], tensors)
        try:
            return self._functions[kind](self._model, cache, tensors, others)
        except RecompileError:
            self.recompiles += 1
            raise
        except BackendCompilerFailed as failed:
            raise failed.inner_exception from None

    def seal(self) -> None:
        """Compile nothing any more."""
        self._functions = {kind: torch._dynamo.run(function) for kind, function in self._functions.items()}
        self._sealed = True


def _forward(model: Any, cache: list[Any], tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
    # Only reached as plain Python when no graph fits and none may be compiled.
    if not torch.compiler.is_compiling():
        raise RecompileError(_what_does_not_fit(sys._getframe()))
    rest = {name: tensor for name, tensor in tensors.items() if name != "input_ids"}
    return model(tensors["input_ids"], past_key_value_states=cache, use_cache=True, **rest, **others)


def _what_does_not_fit(frame: FrameType) -> str:
    guards = " and ".join(_failed_guards(frame.f_code, frame.f_locals)) or "none was compiled"
    return f"this {frame.f_code.co_name} fits no graph of the warm-up, and compiling is over: {guards}"


def _failed_guards(code: CodeType, local: Mapping[str, Any]) -> list[str]:
    """The first guard of each graph that does not hold for these arguments, as torch words it."""
    reasons = []
    for entry in _debug_get_cache_entry_list(code):
        reason = get_guard_fail_reason(
            entry.guard_manager, entry.code, dict(local), entry.compile_id, entry.backend, skip_logging=True
        )
        # Between the number of the compilation and the line of torch or ibm-fms that made the guard.
        reasons.append(" ".join(reason.split()).partition(": ")[2].partition(" # ")[0])
    return reasons


def _mark(dynamic: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        for dimension in range(tensor.dim()):
            mark = torch._dynamo.mark_dynamic if dimension in dynamic.get(name, ()) else torch._dynamo.mark_static
            mark(tensor, dimension)


@contextmanager
def compiling_for(context: int, batch: int, volume: int) -> Iterator[None]:
    """Around the runs that compile: what the device's compiler reads from the environment is there, and only here.

    ``context`` in tokens, ``volume`` the most that batch x tkv may be.
    """
    said = {sendnn.CONTEXT: str(context), sendnn.BATCH: str(batch), sendnn.VOLUME: str(volume)}
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    # Thousands of records for TORCH_TRACE, which has a handler of its own: nobody else wants them.
    trace = logging.getLogger("torch.__trace")
    propagated, trace.propagate = trace.propagate, False
    try:
        # Dimensions that happen to be equal, or 1, in the warm-up are as dynamic as others.
        with symbolic_shapes.patch(use_duck_shape=False, backed_size_oblivious=True):  # type: ignore[attr-defined]
            yield
    finally:
        trace.propagate = propagated
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
