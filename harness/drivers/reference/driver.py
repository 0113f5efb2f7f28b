"""The drivers of the reference engine: ``reference`` runs a model, ``simulation`` runs the scheduler only."""

import importlib
import os
from collections.abc import Hashable, Sequence
from importlib.metadata import version
from typing import NoReturn

from engine.backends import BACKENDS, inductor
from engine.backends import label as reference_label
from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.environment import threads
from harness.drivers.base import (
    ASYNC_API,
    BLOCK_ACCOUNTING,
    GOLDEN_TOKENS,
    LOGPROBS,
    OFFLINE_API,
    PAUSING,
    PROMPT_LOGPROBS,
    STEP_TRACE,
    STRUCTURED_OUTPUTS,
    TOKENS,
    UnavailableError,
)
from harness.drivers.client import ABORT, BLOCK_METRICS, HTTP, RESTART, Client
from harness.drivers.http_client import HttpClient
from harness.drivers.optional import SharedServer
from harness.drivers.reference.session import ReferenceSession
from harness.drivers.reference.simulated import SimulatedSession
from harness.drivers.reference.workers import fork_workers
from harness.drivers.servers import reference_server
from harness.drivers.shared_server import start_shared
from harness.drivers.structured import structured_outputs
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, SchedulingLimits
from harness.utils import spent
from harness.utils.extras import ENGINE, HTTP_CLIENT, SERVER, STRUCTURED, why_missing
from harness.utils.gc import gc_paused

PRELOADED = (
    "engine.entrypoints.llm",
    "engine.execution.runner",
    "fms.models.hf.utils",
    "rich.progress",
    "transformers.generation.utils",
    "transformers.models.granite.modeling_granite",
    "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)


EAGER = "eager"

SCHEDULED_FOR = EAGER
"""The only backend of the driver ``simulation``. One is enough, because steps do not depend on the backend."""


def reference_unavailable(setup: EngineSetup) -> str | None:
    """Return why the reference engine can't be started with this setup, as one sentence. Return None if it can."""
    if setup.backend not in BACKENDS:
        return f"the reference engine has no backend {setup.backend}; it has {', '.join(BACKENDS)}"
    if setup.backend == inductor.BACKEND.name and inductor.cpp_compiler() is None:
        return f"backend inductor needs a C++ compiler, but {', '.join(inductor.COMPILERS)} and $CXX were not found"
    if setup.tensor_parallel_size > 1 and setup.tensor_parallel_size > (cores := os.cpu_count() or 1):
        return f"tensor_parallel_size {setup.tensor_parallel_size} needs as many cores, but there are {cores}"
    return None


class ReferenceDriver:
    """The driver of the reference engine. ``attention`` is the attention kernel, as in EngineConfig."""

    name = "reference"
    capabilities = frozenset(
        {STEP_TRACE, BLOCK_ACCOUNTING, PAUSING, TOKENS, LOGPROBS, PROMPT_LOGPROBS, GOLDEN_TOKENS}
        | {OFFLINE_API, ASYNC_API, ABORT, HTTP, RESTART, BLOCK_METRICS}
    )

    def __init__(self, attention: str | None = None) -> None:
        """Create the driver. Raises UnavailableError if a package that the engine needs is not installed."""
        if missing := why_missing(ENGINE):
            raise UnavailableError(missing)
        self.attention = attention
        self.capabilities |= structured_outputs()

    def describe(self) -> str:
        return f"reference engine {version('spyre-cb')} (torch {version('torch')}, ibm-fms {version('ibm-fms')})"

    def unavailable(self, setup: EngineSetup) -> str | None:
        return reference_unavailable(setup)

    def why_lacking(self, capability: str) -> str | None:
        return why_missing(STRUCTURED) if capability == STRUCTURED_OUTPUTS else None

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> str | None:  # noqa: ARG002
        return why_missing(SERVER, HTTP_CLIENT)

    def backend_label(self, backend: str) -> str:
        return reference_label(backend)

    def preload(self) -> None:
        # FMS and transformers import most of their modules when they load the first model of an architecture.
        # PRELOADED names these modules, so that they are imported before.
        with gc_paused(), spent.timed("imports"):
            for module in PRELOADED:
                importlib.import_module(module)
        fork_workers()

    def inheritable(self, setup: EngineSetup) -> bool:
        # The threads of a process do not exist in its forks. With one thread per process, torch starts no threads.
        cardless = setup.backend == EAGER or self._is_simulated(setup)
        return cardless and setup.tensor_parallel_size == 1 and threads(os.environ) == 1

    def compile_key(self, setup: EngineSetup) -> Hashable:
        if not (self._is_simulated(setup) and self.inheritable(setup)):
            return None
        # Engines share the graphs of the steps that they have in common; a static batch has those of `continuous`.
        steps = "continuous" if setup.scheduler == "static" else setup.scheduler
        return setup.model, setup.backend, steps

    def _is_simulated(self, setup: EngineSetup) -> bool:
        return self.backend_label(setup.backend) != setup.backend

    def open(self, setup: EngineSetup) -> ReferenceSession:
        try:
            return ReferenceSession(setup, self.attention)
        except (RecompileError, DeviceRefusedError) as error:
            raise ValueError(f"the engine did not start: {error}") from error  # see is_a_mistake in start_failures.py

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> Client:
        process = reference_server(setup, limits, options)
        return HttpClient(process.url, setup.model, api_key=options.api_key, process=process)

    def share(self, setup: EngineSetup) -> SharedServer:
        return start_shared(setup)


def become_server(argv: Sequence[str]) -> NoReturn:
    """Run the reference engine's server in this process, which was forked for it. This function does not return."""
    from engine.entrypoints.server.__main__ import become

    become(argv)


class SimulationDriver:
    """The driver ``simulation``: runs the reference engine's scheduler without a model.

    Steps and numbers of blocks can be observed, but no tokens are generated.
    """

    name = "simulation"
    capabilities = frozenset({STEP_TRACE, BLOCK_ACCOUNTING, PAUSING})

    def describe(self) -> str:
        return f"scheduler of the reference engine {version('spyre-cb')}, simulated (no model ran)"

    def unavailable(self, setup: EngineSetup) -> str | None:
        if setup.backend == SCHEDULED_FOR:
            return None
        return f"the driver simulation has the backend {SCHEDULED_FOR} only, not {setup.backend}"

    def preload(self) -> None:
        pass

    def inheritable(self, setup: EngineSetup) -> bool:  # noqa: ARG002
        return False

    def compile_key(self, setup: EngineSetup) -> Hashable:  # noqa: ARG002
        return None

    def open(self, setup: EngineSetup) -> SimulatedSession:
        return SimulatedSession(setup)
