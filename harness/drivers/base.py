"""The driver protocol: what the harness asks of an engine, in values that belong to no engine.

A driver gets requests and limits and hands back what it saw. Expectations never reach it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token

if TYPE_CHECKING:
    pass

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
    """A started engine. What else a session may have is in ``optional.py``."""

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

    def close(self) -> None:
        """Give back what the engine holds."""


class Driver(Protocol):
    """Starts engines of one make. What else a driver may have is in ``optional.py``."""

    name: str
    capabilities: frozenset[str]

    def describe(self) -> str:
        """Engine and version, for reports."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Why this setup cannot run here, in one sentence, or None. Cheap: asked before anything is started."""

    def open(self, setup: EngineSetup) -> Session:
        """Start an engine. UnavailableError where that cannot work; ValueError for a wrong setup."""
