"""A model that is compiled in a warm-up, and never after it."""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
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
from engine.backends.graphs import (
    Cache,
    TracedFunction,
    fixed_sizes,
    functions_for,
    mark,
    mark_shared,
    sharable,
    signature,
)
from engine.backends.simulated.program import PROGRAM, Program


class CompiledModel:
    """``model`` by ``torch.compile``: a function for prefills, for chunks, for parts of mixed steps, and for decodes.

    Until ``seal`` whatever comes is compiled, unless an engine of the same shape had it compiled before; after it, what
    does not fit a graph is a RecompileError. ``shared`` counts the graphs that were there before.
    """

    def __init__(self, model: torch.nn.Module, backend: Backend) -> None:
        if backend.name == sendnn.BACKEND.name:
            sendnn.register()
        self._model = model
        self._backend = backend
        self._known = functions_for(model, backend)
        self._functions: dict[str, TracedFunction] = {}
        self._sizes: dict[str, dict[tuple[str, int], int]] = {}
        self._program = Program()
        self._sealed = False
        self.shared = 0
        self.recompiles = 0

    @property
    def graphs(self) -> int:
        """How many there are for this engine, its own and shared ones."""
        return sum(len(function.graphs) for function in self._functions.values())

    def __call__(self, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
        """One forward of ``kind`` prefill, chunk, part or decode: what the model returns.

        ``tensors`` are its arguments by name, ``others`` those that are none. Raises RecompileError and
        DeviceRefusedError.
        """
        program = PROGRAM.set(self._program)
        try:
            if self._sealed:
                if kind not in self._functions:
                    raise RecompileError(_fits_none(kind, "none was compiled"))
                self._check_sizes(kind, tensors)
                return self._functions[kind].sealed(self._model, cache, tensors, others)
            return self._compile(kind, cache, tensors, others)
        except RecompileError:
            self.recompiles += 1
            raise
        except BackendCompilerFailed as failed:
            raise failed.inner_exception from None
        finally:
            PROGRAM.reset(program)

    def seal(self) -> None:
        """Compile nothing any more."""
        self._sealed = True

    def _compile(self, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
        if sharable(self._backend):
            mark_shared(kind, cache, tensors)
            self._sizes[kind] = fixed_sizes(kind, tensors)
        else:
            mark(kind, tensors)
        shape = signature(self._backend, kind, cache, tensors, others)
        if shape not in self._known:
            self._known[shape] = TracedFunction(_forward, kind, self._backend)
        function = self._known[shape]
        if self._functions.get(kind) is not function:
            self._functions[kind] = function
            self.shared += len(function.graphs)
        return function.compiling(self._model, cache, tensors, others)

    def _check_sizes(self, kind: str, tensors: Mapping[str, Tensor]) -> None:
        """As a guard would where graphs are not shared."""
        for (name, dimension), size in self._sizes.get(kind, {}).items():
            actual = tensors[name].shape[dimension]
            if actual != size:
                guard = (
                    f"tensor 'tensors['{name}']' size mismatch at index {dimension}. expected {size}, actual {actual}"
                )
                raise RecompileError(_fits_none(kind, guard))


def _forward(model: Any, cache: list[Any], tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
    # Only reached as plain Python when no graph fits and none may be compiled.
    if not torch.compiler.is_compiling():
        raise RecompileError(_what_does_not_fit(sys._getframe()))
    rest = {name: tensor for name, tensor in tensors.items() if name != "input_ids"}
    return model(tensors["input_ids"], past_key_value_states=cache, use_cache=True, **rest, **others)


def _what_does_not_fit(frame: FrameType) -> str:
    guards = " and ".join(_failed_guards(frame.f_code, frame.f_locals)) or "none was compiled"
    return _fits_none(frame.f_code.co_name, guards)


def _fits_none(kind: str, guards: str) -> str:
    return f"this {kind} fits no graph of the warm-up, and compiling is over: {guards}"


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


@contextmanager
def compiling_for(context: int, batch: int, batch_tkv: int) -> Iterator[None]:
    """Around the runs that compile: what the device's compiler reads from the environment is there, and only here.

    ``context`` in tokens, ``batch_tkv`` the most that batch x tkv may be.
    """
    said = {sendnn.CONTEXT: str(context), sendnn.BATCH: str(batch), sendnn.BATCH_TKV: str(batch_tkv)}
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    # Thousands of records for TORCH_TRACE, which has a handler of its own: nobody else wants them.
    trace = logging.getLogger("torch.__trace")
    propagated, trace.propagate = trace.propagate, False
    try:
        # Dimensions that happen to be equal, or 1, in the warm-up are as dynamic as others.
        with (
            symbolic_shapes.patch(use_duck_shape=False, backed_size_oblivious=True),  # type: ignore[attr-defined]
            _quick_tracing(),
        ):
            yield
    finally:
        trace.propagate = propagated
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quick_tracing() -> Iterator[None]:
    """Without what costs more than it saves for a few small graphs: torch's cache of dispatches, garbage collection."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with torch._dynamo.config.patch(fake_tensor_cache_enabled=False, run_gc_after_compile=False):
            yield
    finally:
        if collecting:
            gc.enable()
