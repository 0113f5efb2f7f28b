"""CompiledModel: a model that ``torch.compile`` compiles during the warm-up, and never afterwards."""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
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
from engine.execution.graphs import (
    Cache,
    TracedFunction,
    fixed_sizes,
    functions_for,
    mark,
    mark_shared,
    sharable,
    signature,
)
from engine.execution.simulated.program import PROGRAM, Program

NO_GRAPH = "no graph was compiled for this kind of step"


def register_sendnn() -> None:
    """Register the backend ``sendnn`` with ``torch.compile``. Idempotent.

    It is the backend of ``torch_sendnn`` if that package is installed, else the simulated one.
    """
    import_module("engine.execution.simulated.device" if sendnn.simulated() else sendnn.RUNTIME)


class CompiledModel:
    """A model compiled by ``torch.compile``, with one function for each kind of forward (``ModelInputs.kind``).

    Before ``seal`` is called, running the model compiles a graph, unless an earlier engine has compiled a graph with
    the same signature (graphs.py). After ``seal``, running the model raises RecompileError if no compiled graph
    matches. ``recompiles`` is the number of RecompileErrors so far. ``shared`` is the number of graphs that an earlier
    engine compiled.
    """

    def __init__(self, model: torch.nn.Module, backend: Backend) -> None:
        if backend.name == sendnn.BACKEND.name:
            register_sendnn()
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
        """Return the number of graphs of this engine, including those that an earlier engine compiled."""
        return sum(len(function.graphs) for function in self._functions.values())

    def __call__(self, kind: str, cache: Cache, tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
        """Run one forward and return the model's result: logits and cache.

        ``kind`` is ``prefill`` (a whole prompt), ``chunk`` (a chunk of a prompt), ``part`` (what a mixed step computes
        for one request) or ``decode`` (one token for each row). ``tensors`` are the model's tensor arguments by name,
        ``others`` its other arguments.

        Raises RecompileError if no compiled graph matches after ``seal``, and DeviceRefusedError if the device does not
        support the tensors.
        """
        program = PROGRAM.set(self._program)
        try:
            if self._sealed:
                if kind not in self._functions:
                    raise RecompileError(_fits_none(kind, NO_GRAPH))
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
        """Forbid further compilation, at the end of the warm-up."""
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
        """Raise RecompileError if a dimension in FIXED has another size than in this engine's warm-up.

        The dimensions in FIXED (see graphs.py) are dynamic in graphs that several engines share, so torch's guards do
        not check them.
        """
        for (name, dimension), size in self._sizes.get(kind, {}).items():
            actual = tensors[name].shape[dimension]
            if actual != size:
                guard = (
                    f"tensor 'tensors['{name}']' size mismatch at index {dimension}. expected {size}, actual {actual}"
                )
                raise RecompileError(_fits_none(kind, guard))


def _forward(model: Any, cache: list[Any], tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> Any:
    # This runs as Python code only if no graph matches and compilation is forbidden.
    if not torch.compiler.is_compiling():
        raise RecompileError(_what_does_not_fit(sys._getframe()))
    rest = {name: tensor for name, tensor in tensors.items() if name != "input_ids"}
    return model(tensors["input_ids"], past_key_value_states=cache, use_cache=True, **rest, **others)


def _what_does_not_fit(frame: FrameType) -> str:
    guards = " and ".join(_failed_guards(frame.f_code, frame.f_locals)) or NO_GRAPH
    return _fits_none(frame.f_code.co_name, guards)


def _fits_none(kind: str, guards: str) -> str:
    return f"this {kind} matches no graph that the warm-up compiled: {guards}"


def _failed_guards(code: CodeType, local: Mapping[str, Any]) -> list[str]:
    """Return, for each graph, the first guard that fails for the arguments ``local``, in torch's words."""
    reasons = []
    for entry in _debug_get_cache_entry_list(code):
        reason = get_guard_fail_reason(
            entry.guard_manager, entry.code, dict(local), entry.compile_id, entry.backend, skip_logging=True
        )
        # torch's message has the number of the compilation, the guard, and the source line that created the guard.
        reasons.append(" ".join(reason.split()).partition(": ")[2].partition(" # ")[0])
    return reasons


@contextmanager
def compiling_for(context: int, batch: int, batch_tkv: int) -> Iterator[None]:
    """Return a context manager that prepares this process for compilation, and restores its settings at the end.

    The three arguments are limits, which are passed to the device's compiler in environment variables: ``context`` is
    in tokens, ``batch`` in sequences, and ``batch_tkv`` is the maximum of batch size x tkv.
    """
    variables = {sendnn.CONTEXT: str(context), sendnn.BATCH: str(batch), sendnn.BATCH_TKV: str(batch_tkv)}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    # This logger writes thousands of records, for which TORCH_TRACE has a handler: keep them from other handlers.
    trace = logging.getLogger("torch.__trace")
    propagated, trace.propagate = trace.propagate, False
    try:
        # Keep dimensions dynamic even if two of them are equal in the warm-up, or one of them is 1.
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
    """Disable the garbage collector and torch's cache of fake tensors, which only slow down compiling a few graphs."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with torch._dynamo.config.patch(fake_tensor_cache_enabled=False, run_gc_after_compile=False):
            yield
    finally:
        if collecting:
            gc.enable()
