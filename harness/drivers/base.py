"""The driver protocol: what the harness asks of an engine, in values that belong to no engine.

A driver gets requests and limits and hands back what it saw. Expectations never reach it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from harness.types import DEFAULT_SCHEDULER, EngineSetup, RequestSpec, SchedulingLimits, Token

if TYPE_CHECKING:
    from harness.drivers.client import Client
    from harness.suites.schema import Scheduler, ServerOptions

STEP_TRACE = "step-trace"
TOKENS = "tokens"
BLOCK_ACCOUNTING = "block-accounting"
LOGPROBS = "logprobs"
OFFLINE_API = "offline-api"
"""Lists of prompts are taken in this process, as an offline program gives them."""
ASYNC_API = "async"
"""There is an entry point in this process for many clients at once, whose answers stream."""
GOLDEN_TOKENS = "golden-tokens"
"""Tokens of a request can be given, and come out in place of the sampled ones, with the model's own logprobs."""


class RefusedError(Exception):
    """The engine's entry point refused a request; the message is the engine's own."""


class UnavailableError(Exception):
    """This driver cannot run this setup here; the message says why and what to do. Cases are skipped with it."""


class Observation(NamedTuple):
    """What can be seen between two steps. Fields an engine does not have are None.

    ``paused`` and ``hits`` (request, blocks of its prefix that were not computed again) belong to the chunked
    scheduler.

    The token-budget scheduler has ``scheduled``, ``preempted`` and ``hits``, which are those of the last step and empty
    before the first: (request, tokens computed) in order; requests that lost their blocks, the first evicted first;
    (request, tokens found) of those that were admitted and found any. Elsewhere ``scheduled`` and ``preempted`` are
    None.
    """

    tkv: int
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    n_reserved_blocks: int | None = None
    n_used_blocks: int | None = None
    paused: tuple[int, ...] | None = None
    hits: tuple[tuple[int, int], ...] | None = None
    scheduled: tuple[tuple[int, int], ...] | None = None
    preempted: tuple[int, ...] | None = None


class StepRecord(NamedTuple):
    """What one step did: ``kind`` is ``prefill``, ``decode``, ``mixed`` or ``idle``; ``tokens`` goes with
    ``request_outputs``.

    So does ``block_tables``, the ids of the blocks each of them held in the step, oldest first; empty where the
    driver cannot see them. With the token-budget scheduler it goes with all that were ``scheduled``, those that ended
    in the step among them. There a request *decodes* where it ran before the step, computes one token, the last it has,
    and gets the next; else it is in its prefill, also where it computes again what it lost. A ``mixed`` step has both.
    """

    kind: str
    request_outputs: tuple[int, ...]
    finished_requests: tuple[int, ...]
    tokens: tuple[Token, ...]
    block_tables: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Completion:
    """What the entry point returned for one request."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None


class Compilation(NamedTuple):
    """What an engine had compiled. ``engine`` tells one engine from another, also across processes.

    ``graphs`` were compiled before the first request, ``recompiles`` counts what would have had to be compiled since.
    ``shared`` of the graphs had been compiled for another engine of the process.
    """

    engine: str
    backend: str
    graphs: int
    recompiles: int
    shared: int = 0


class Session(Protocol):
    """A started engine."""

    @property
    def compilation(self) -> Compilation | None:
        """What was compiled for it so far; None where nothing is, or where that cannot be seen."""

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        """Forget every request and tighten the limits, without starting again.

        Returns the limits as they are now, None where the driver cannot say. ValueError: impossible limits.
        """

    def add_request(self, request: RequestSpec) -> None:
        """Put a request straight into the engine core's queue."""

    def abort(self, request_id: int) -> None:
        """End a request between two steps; nothing happens where it has ended."""

    def step(self) -> StepRecord:
        """Run one engine step, also where there is nothing to do."""

    def observe(self) -> Observation:
        """What can be seen now."""

    def has_work(self) -> bool:
        """Whether a further step would change anything."""

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        """Run requests through the offline API. RefusedError where it refuses one."""

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        """Every step of the last ``generate``, requests named by their position in it; empty where not visible."""

    def client(self, options: "ServerOptions") -> "Client":
        """The entry points of this process. Only asked of drivers with ``offline-api``."""

    def close(self) -> None:
        """Give back what the engine holds."""


class SharedServer(Protocol):
    """A server whose limits and options can be changed while it runs."""

    def client(self, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """The server, held to these and proven clean. Raises DirtyServerError (server_pool.py); UnavailableError for
        limits that no server can have.
        """

    def end(self) -> None:
        """End its process. Again does no harm."""


class Driver(Protocol):
    """Starts engines of one make."""

    name: str
    capabilities: frozenset[str]

    def describe(self) -> str:
        """Engine and version, for reports."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Why this setup cannot run here, in one sentence, or None. Cheap: asked before anything is started."""

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> str | None:
        """Why this driver's server is not one for a case over HTTP with these limits, in one sentence, or None."""

    def backend_label(self, backend: str) -> str:
        """What reports call that backend: its name, and ``(simulated)`` where no card is behind it."""

    starts_in_forks: bool
    """Whether an engine that is on no card starts in a fork of a process that has called ``preload``."""

    def preload(self) -> None:
        """Import what an engine will need, without running any of it: forked children then start quickly."""

    def inheritable(self, setup: EngineSetup) -> bool:
        """Whether a forked child can use such an engine of its parent: no other processes, no threads, and nothing of
        a card in it.
        """

    def shared(self, setup: EngineSetup) -> Hashable:
        """What such an engine has in common with others that inherit it, where that takes seconds to make; or None."""

    def open(self, setup: EngineSetup) -> Session:
        """Start an engine. UnavailableError where that cannot work; ValueError for a wrong setup."""

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """A server that is held to these limits. UnavailableError where that cannot work.

        Only asked of drivers with the capability ``http``.
        """

    def share(self, setup: EngineSetup) -> SharedServer | None:
        """A server whose limits and options can be changed between cases; None where each set of them takes another.

        UnavailableError where it does not start. Only asked of drivers with the capability ``http``.
        """


@runtime_checkable
class OfOneScheduler(Protocol):
    """A driver whose engines batch in one way only."""

    scheduler: "Scheduler"


def scheduler_of(driver: Driver) -> "Scheduler":
    """How requests are batched where nobody says it: as the driver's engines do, else by the default scheduler."""
    return driver.scheduler if isinstance(driver, OfOneScheduler) else DEFAULT_SCHEDULER


@runtime_checkable
class OfVllm(Protocol):
    """A driver whose engines are vLLM's."""

    vllm_version: str | None


def vllm_version_of(driver: Driver) -> str | None:
    """The version of vLLM that this driver runs, such as ``0.27.1``; None where it runs none, or can't say."""
    return driver.vllm_version if isinstance(driver, OfVllm) else None
