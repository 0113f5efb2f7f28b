"""The reference engine as a driver: the only place in the harness that imports ``engine``.

Imports of torch and ibm-fms happen when an engine is opened, so that collecting and listing stay quick.
"""

import importlib
import itertools
import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from operator import attrgetter
from typing import Any, NoReturn

from checkpoints import CheckpointError, resolve
from engine.backends import BACKENDS, inductor
from engine.backends import label as reference_label
from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.build import build_engine
from engine.config import EngineConfig, Limits
from engine.core import EngineCore
from engine.core import StepRecord as EngineRecord
from engine.entrypoints.validation import RequestRefusedError
from engine.environment import threads
from engine.request import Request, SamplingParams, TokenOutput
from engine.scheduling.plan import AlignedDecode, ChunkedState, Decode, Idle, StepPlan, kind_of
from engine.simulation import NoModel, jump, simulated_core
from engine.tokenizer import Tokenizer, eos_token_ids
from harness.drivers.base import (
    ASYNC_DOOR,
    BLOCK_ACCOUNTING,
    FRONT_DOOR,
    GOLDEN_TOKENS,
    LOGPROBS,
    STEP_TRACE,
    TOKENS,
    Compilation,
    Completion,
    Jump,
    Observation,
    RefusedError,
    StepRecord,
    UnavailableError,
)
from harness.drivers.door import ABORT, BLOCK_FIGURES, HTTP, RESTART, Door
from harness.drivers.http_door import HttpDoor
from harness.drivers.reference_workers import fork_workers
from harness.drivers.server_pool import SharedServer
from harness.drivers.servers import reference_server
from harness.drivers.shared_server import start_shared
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token
from harness.utils import spent
from harness.utils.gc import kept

PRELOADED = (
    "engine.entrypoints.llm",
    "engine.model.runner",
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
"""The backend that a schedule without a model is taken to be for: it would be the same for the others."""

PLACEHOLDER = Token(-1)
"""What simulation hands out: it has no tokens, as its capabilities say."""


__all__ = ["ReferenceDriver", "SimulationDriver", "reference_label", "reference_unavailable"]

_NUMBERS = itertools.count()


class CoreSession:
    """Any engine core of this repository, driven a step at a time."""

    def __init__(self, core: EngineCore) -> None:
        self.core = core
        self._waiting, self._running, self._outputs = _Numbers(), _Numbers(), _Numbers()
        self._seen: Observation | None = None

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        held_to = self.core.reset(
            Limits(
                limits.max_model_len,
                limits.max_num_seqs,
                limits.available_blocks,
                limits.max_batch_tkv_limit,
            )
        )
        self._seen = None
        return SchedulingLimits(**asdict(held_to))

    def add_request(self, request: RequestSpec) -> None:
        self._seen = None
        params = sampling_params(request)
        self.core.add_request(Request(str(request.request_id), request.prompt_token_ids, params))

    def abort(self, request_id: int) -> None:
        self._seen = None
        self.core.abort(str(request_id))

    def step(self) -> StepRecord:
        record = self.core.step()
        _, _, tkv, waiting, running, _, _, reserved, used, _, chunked = record
        self._seen = self._observation(tkv, waiting, running, reserved, used, chunked)
        return self._as_record(record)

    def _observation(
        self,
        tkv: int,
        waiting: tuple[str, ...],
        running: tuple[str, ...],
        reserved: int,
        used: int,
        chunked: ChunkedState | None,
    ) -> Observation:
        paused, hits = _chunked(chunked)
        return Observation(tkv, self._waiting.of(waiting), self._running.of(running), reserved, used, paused, hits)

    def _as_record(self, record: EngineRecord) -> StepRecord:
        return StepRecord(
            kind_of(record.plan),
            self._outputs.of(record.request_outputs),
            tuple(map(int, record.finished_requests)),
            self._tokens(record),
            _block_tables(record.plan),
        )

    def observe(self) -> Observation:
        # What the last step showed is still so, unless a request came or went since.
        if self._seen is None:
            self._seen = self._observation(*self.core.state())
        return self._seen

    def _tokens(self, record: EngineRecord) -> tuple[Token, ...]:
        return tuple(map(_token, record.tokens))

    def has_work(self) -> bool:
        return self.core.has_work

    @property
    def compilation(self) -> Compilation | None:
        return None

    def close(self) -> None:
        pass


class SimulatedSession(CoreSession):
    """The engine without a model: every token is the same placeholder, and there is no front door.

    Where a request brings the tokens that a model would generate, they end it where they would there.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._executor = NoModel()
        self._model = setup.model
        self._decoded = Decode(("",), 0, (), ())
        self._decode = StepRecord("decode", (), (), ())
        config = EngineConfig(
            max_model_len=setup.max_model_len,
            max_num_seqs=setup.max_num_seqs,
            num_blocks=setup.num_blocks,
            scheduler=setup.scheduler,
            **chunking_of(setup),
        )
        super().__init__(
            simulated_core(config, self._executor, eos_token_ids=self._eos(), decode_text=self._decode_text)
        )

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        self._executor.scripts.clear()
        return super().reset(limits)

    def add_request(self, request: RequestSpec) -> None:
        if request.simulated_token_ids:
            self._executor.scripts[str(request.request_id)] = request.simulated_token_ids
        super().add_request(request)

    def jump(self, most: int) -> Jump | None:
        """Plain decodes at once, see ``engine.simulation.jump``."""
        jumped = jump(self.core, self._executor, most)
        if jumped is None:
            return None
        record, steps = jumped
        _, _, tkv, waiting, running, _, _, reserved, used, _, chunked = record
        first = self._observation(tkv, waiting, running, reserved, used, chunked)
        self._seen = first._replace(tkv=tkv + steps - 1)
        return Jump(self._as_record(record), first, steps)

    def _eos(self) -> frozenset[int]:
        try:
            return eos_token_ids(resolve(self._model).path)
        except CheckpointError:
            return frozenset()  # a schedule can be simulated for a model that is not here

    def _decode_text(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Only stop strings need text, and so a tokenizer."""
        return _tokenizer(self._model).decode(token_ids, skip_special_tokens=skip_special_tokens)

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:  # noqa: ARG002
        raise UnavailableError("simulation has no front door: behaviour cases need a model")

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        return ()

    def door(self, options: ServerOptions) -> Door:  # noqa: ARG002
        raise UnavailableError("simulation has no front door: behaviour cases need a model")

    def _as_record(self, record: EngineRecord) -> StepRecord:
        """The same record again and again while the same batch decodes on: one placeholder is like another."""
        plan = record.plan
        if record.finished_requests or not isinstance(plan, Decode):
            return super()._as_record(record)
        # As long as nobody comes, goes or takes a block, the scheduler hands out the same tuples.
        if plan.block_tables is not self._decoded.block_tables or plan.request_ids is not self._decoded.request_ids:
            self._decoded, self._decode = plan, super()._as_record(record)
        return self._decode

    def _tokens(self, record: EngineRecord) -> tuple[Token, ...]:
        return (PLACEHOLDER,) * len(record.tokens)


class ReferenceSession(CoreSession):
    """The engine with a model, and its offline front door."""

    def __init__(self, setup: EngineSetup, attention: str | None) -> None:
        # Seconds of imports, an eighth of them spent on looking for garbage.
        with kept(), spent.timed("imports"):
            import torch

            from engine.entrypoints.llm import LLM

            if setup.tensor_parallel_size == 1:  # else the workers import it
                importlib.import_module("engine.model.runner")

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        # The tokenizer is loaded by the first case that needs text: most cases need only token ids.
        self.llm = LLM(build_engine(_config(setup, attention)))
        super().__init__(self.llm.engine.core)
        self._steps: list[tuple[StepRecord, Observation]] = []
        self._name = f"{os.getpid()}-{next(_NUMBERS)}"

    @property
    def compilation(self) -> Compilation | None:
        compiled = self.llm.engine.compilation
        return None if compiled is None else Compilation(self._name, *compiled)

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        self._steps, self._seen = [], None
        first = self.llm.requests_made

        def position(request_ids: Sequence[str]) -> tuple[int, ...]:
            return tuple(int(request_id) - first for request_id in request_ids)

        def on_step(record: EngineRecord) -> None:
            seen = StepRecord(
                kind_of(record.plan),
                position(record.request_outputs),
                position(record.finished_requests),
                tuple(map(_token, record.tokens)),
                _block_tables(record.plan),
            )
            waiting, running = position(record.waiting), position(record.running)
            blocks = record.n_reserved_blocks, record.n_used_blocks
            self._steps.append(
                (seen, Observation(record.tkv, waiting, running, *blocks, *_chunked(record.chunked, first)))
            )

        try:
            outputs = self.llm.generate(
                [{"prompt_token_ids": request.prompt_token_ids} for request in requests],
                [sampling_params(request) for request in requests],
                progress=False,
                on_step=on_step,
            )
        except RequestRefusedError as refusal:
            raise RefusedError(str(refusal)) from refusal
        firsts = (output.outputs[0] for output in outputs)
        # A plain word, not the engine's enumeration: it is shown to people.
        return [Completion(f.token_ids, f.text, f.finish_reason and str(f.finish_reason)) for f in firsts]

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        return self._steps

    def door(self, options: ServerOptions) -> Door:
        from harness.drivers.reference_door import ReferenceDoor

        return ReferenceDoor(self, options.max_queue)

    def close(self) -> None:
        self.llm.close()


def _config(setup: EngineSetup, attention: str | None) -> EngineConfig:
    return EngineConfig(
        model=setup.model,
        backend=setup.backend,
        attention=attention,
        tensor_parallel_size=setup.tensor_parallel_size,
        max_model_len=setup.max_model_len,
        max_num_seqs=setup.max_num_seqs,
        num_blocks=setup.num_blocks,
        scheduler=setup.scheduler,
        **chunking_of(setup),
    )


def reference_unavailable(setup: EngineSetup) -> str | None:
    """Why the reference engine cannot be started so, in one sentence, or None."""
    if setup.backend not in BACKENDS:
        return f"backend {setup.backend} is not known to the reference engine; it has {', '.join(BACKENDS)}"
    if setup.backend == inductor.BACKEND.name and inductor.cpp_compiler() is None:
        return f"backend inductor needs a C++ compiler ({', '.join(inductor.COMPILERS)} or $CXX), and there is none"
    if setup.tensor_parallel_size > 1 and setup.tensor_parallel_size > (cores := os.cpu_count() or 1):
        return f"tensor_parallel_size {setup.tensor_parallel_size} needs as many cores, and there are {cores}"
    return None


class ReferenceDriver:
    """The engine in this repository, on CPU. ``attention`` as in EngineConfig."""

    name = "reference"
    starts_in_forks = True
    capabilities = frozenset(
        {STEP_TRACE, BLOCK_ACCOUNTING, TOKENS, LOGPROBS, GOLDEN_TOKENS}
        | {FRONT_DOOR, ASYNC_DOOR, ABORT, HTTP, RESTART, BLOCK_FIGURES}
    )

    def __init__(self, attention: str | None = None) -> None:
        self.attention = attention

    def describe(self) -> str:
        return f"reference engine {version('spyre-cb')} (torch {version('torch')}, ibm-fms {version('ibm-fms')})"

    def unavailable(self, setup: EngineSetup) -> str | None:
        return reference_unavailable(setup)

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> str | None:  # noqa: ARG002
        return None

    def backend_label(self, backend: str) -> str:
        return reference_label(backend)

    def preload(self) -> None:
        # FMS and transformers import much of themselves at the first model of an architecture, hence the names.
        with kept(), spent.timed("imports"):
            for module in PRELOADED:
                importlib.import_module(module)
        fork_workers()

    def inheritable(self, setup: EngineSetup) -> bool:
        # With one thread torch starts no others, which a fork would lose.
        cardless = setup.backend == EAGER or self._is_simulated(setup)
        return cardless and setup.tensor_parallel_size == 1 and threads(os.environ) == 1

    def shared(self, setup: EngineSetup) -> Hashable:
        return (setup.model, setup.backend) if self._is_simulated(setup) and self.inheritable(setup) else None

    def _is_simulated(self, setup: EngineSetup) -> bool:
        return self.backend_label(setup.backend) != setup.backend

    def open(self, setup: EngineSetup) -> ReferenceSession:
        try:
            return ReferenceSession(setup, self.attention)
        except (RecompileError, DeviceRefusedError) as error:
            raise ValueError(f"the engine did not start: {error}") from error

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> Door:
        process = reference_server(setup, limits, options)
        return HttpDoor(process.url, setup.model, api_key=options.api_key, process=process)

    def share(self, setup: EngineSetup) -> SharedServer:
        return start_shared(setup)


def become_server(argv: Sequence[str]) -> NoReturn:
    """Be the reference engine's server in this process, a fork, with its environment and output; does not return."""
    from engine.entrypoints.server.__main__ import become

    become(argv, dict(os.environ), 1, 2)


class SimulationDriver:
    """The scheduler of the engine in this repository, without a model: steps and blocks, no tokens."""

    name = "simulation"
    starts_in_forks = True
    capabilities = frozenset({STEP_TRACE, BLOCK_ACCOUNTING})

    def describe(self) -> str:
        return f"scheduler of the reference engine {version('spyre-cb')}, simulated (no model ran)"

    def unavailable(self, setup: EngineSetup) -> str | None:
        return None if setup.backend == SCHEDULED_FOR else f"schedules are simulated for {SCHEDULED_FOR} only"

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> str | None:  # noqa: ARG002
        return None

    def backend_label(self, backend: str) -> str:
        return backend

    def preload(self) -> None:
        pass

    def inheritable(self, setup: EngineSetup) -> bool:  # noqa: ARG002
        return False

    def shared(self, setup: EngineSetup) -> Hashable:  # noqa: ARG002
        return None

    def open(self, setup: EngineSetup) -> SimulatedSession:
        return SimulatedSession(setup)

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> Door:  # noqa: ARG002
        raise UnavailableError("simulation has no server")

    def share(self, setup: EngineSetup) -> None:  # noqa: ARG002
        return None


@lru_cache(maxsize=4)
def _tokenizer(model: str) -> Tokenizer:
    return Tokenizer(resolve(model))


def chunking_of(setup: EngineSetup) -> dict[str, Any]:
    """The options of the chunked scheduler as EngineConfig takes them; nothing for others."""
    return {} if setup.chunking is None else asdict(setup.chunking)


def sampling_params(request: RequestSpec, **more: Any) -> SamplingParams:
    """A request's parameters as the engine takes them; ``more`` are others of SamplingParams."""
    params = _checked_params(*_values_of(request))
    return replace(params, **more) if more else params


_PARAMS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "max_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "logprobs",
    "golden_token_ids",
)
_values_of = attrgetter(*_PARAMS)


@lru_cache(maxsize=1024)
def _checked_params(*values: Any) -> SamplingParams:
    """Many requests ask for the same, and checking it takes longer than a step."""
    return SamplingParams(**dict(zip(_PARAMS, values, strict=True)))


def _chunked(
    state: ChunkedState | None, first: int = 0
) -> tuple[tuple[int, ...] | None, tuple[tuple[int, int], ...] | None]:
    """What only the chunked generation has to show, requests numbered from ``first``; None twice for others."""
    if state is None:
        return None, None
    hits = [(int(request_id) - first, blocks) for request_id, blocks in state.usable_hit_blocks]
    return tuple([int(request_id) - first for request_id in state.paused]), tuple(sorted(hits))


def _block_tables(plan: StepPlan) -> tuple[tuple[int, ...], ...]:
    if isinstance(plan, Decode) or isinstance(plan, AlignedDecode):  # noqa: SIM101 - a union is slower than a step
        return plan.block_tables
    if isinstance(plan, Idle) or not plan.request_ids:
        return ()
    return (plan.blocks,)


def _token(token: TokenOutput) -> Token:
    return Token(token.token_id, token.logprob, token.rank, token.top)


class _Numbers:
    """Request ids as numbers. The engine hands out the same tuple until something changes; so does this.

    A queue that only lost its head is not counted anew.
    """

    def __init__(self) -> None:
        self._ids: tuple[str, ...] = ()
        self._numbers: tuple[int, ...] = ()

    def of(self, request_ids: tuple[str, ...]) -> tuple[int, ...]:
        if request_ids is not self._ids:
            self._numbers = self._numbers[1:] if self._lost_its_head(request_ids) else tuple(map(int, request_ids))
            self._ids = request_ids
        return self._numbers

    def _lost_its_head(self, request_ids: tuple[str, ...]) -> bool:
        """One is missing and the second is first: it is the head that left, unless somebody came, who would be last."""
        before = self._ids
        if not request_ids or len(request_ids) != len(before) - 1:
            return False
        return request_ids[0] is before[1] and request_ids[-1] is before[-1]
