"""The driver protocol: the interface of an engine under test, with types that are independent of any engine.

A driver gets requests and limits, and returns observations. Expectations are never passed to a driver.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token

if TYPE_CHECKING:
    pass

STEP_TRACE = "step-trace"
"""The engine can be stepped, and its queues are observed after each step."""
TOKENS = "tokens"
"""A model runs: tokens are generated, and can be compared."""
BLOCK_ACCOUNTING = "block-accounting"
"""Reserved and used blocks are observed."""
LOGPROBS = "logprobs"
"""Tokens have logprobs and, where a request asks for them, alternatives."""
OFFLINE_API = "offline-api"
"""The driver accepts lists of prompts in this process, like vLLM's ``LLM.generate``."""
ASYNC_API = "async"
"""The driver has an entry point in this process for concurrent clients, with streamed answers."""
GOLDEN_TOKENS = "golden-tokens"
"""Given tokens can replace sampled tokens; their logprobs are the model's own."""
STRUCTURED_OUTPUTS = "structured-outputs"
"""Answers can be constrained by a JSON schema, a regular expression, a list of texts, or a grammar."""


class RefusedError(Exception):
    """The engine's entry point refused a request. The message is the engine's own."""


class UnavailableError(Exception):
    """This driver can't run this setup on this machine.

    The message, with the remedy, is the reason with which cases are skipped.
    """


class Observation(NamedTuple):
    """The observable state between two steps. Fields that an engine does not have are None.

    ``paused`` and ``hits`` (request, prefix blocks that were not computed again) belong to the chunked scheduler.

    The token-budget scheduler has ``scheduled``, ``preempted`` and ``hits`` of the last step, empty before the first.
    ``scheduled`` holds (request, tokens computed) in order; ``preempted`` the requests that lost their blocks, the
    first evicted first; ``hits`` holds (request, tokens found) of admitted requests with a hit. With other schedulers,
    ``scheduled`` and ``preempted`` are None.
    """

    tkv: int | None
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    n_reserved_blocks: int | None = None
    n_used_blocks: int | None = None
    paused: tuple[int, ...] | None = None
    hits: tuple[tuple[int, int], ...] | None = None
    scheduled: tuple[tuple[int, int], ...] | None = None
    preempted: tuple[int, ...] | None = None


class StepRecord(NamedTuple):
    """The result of one step. ``kind`` is ``prefill``, ``decode``, ``mixed`` or ``idle``.

    ``tokens`` is in the order of ``request_outputs``, and so is ``block_tables``: the ids of the blocks that each of
    these requests held in the step, oldest first; empty if the driver can't observe them. With the token-budget
    scheduler, ``block_tables`` is in the order of ``scheduled``, including requests that ended in the step. There, a
    request *decodes* if it ran before the step and computes one token, its last, to get the next. Otherwise it is in
    its prefill, also when it is computed again after a preemption. A ``mixed`` step has both.
    """

    kind: str
    request_outputs: tuple[int, ...]
    finished_requests: tuple[int, ...]
    tokens: tuple[Token, ...]
    block_tables: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Completion:
    """The entry point's result for one request."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None


class Compilation(NamedTuple):
    """Numbers of compiled graphs of an engine. ``engine`` identifies the engine, also across processes.

    ``graphs`` were compiled before the first request, ``recompiles`` since then. ``shared`` of the graphs were first
    compiled for another engine of the process.
    """

    engine: str
    backend: str
    graphs: int
    recompiles: int
    shared: int = 0


class Session(Protocol):
    """A started engine. What else a session may have is in ``optional.py``."""

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        """Remove all requests and tighten the limits, without restarting the engine.

        Returns the effective limits, None for those that the driver can't read. Raises ValueError for impossible
        limits.
        """

    def add_request(self, request: RequestSpec) -> None:
        """Add a request directly to the engine core's queue."""

    def abort(self, request_id: int) -> None:
        """End a request between two steps. Does nothing if it has already ended."""

    def step(self) -> StepRecord:
        """Run one engine step, also if there is nothing to do."""

    def observe(self) -> Observation:
        """Return the current observable state."""

    def has_work(self) -> bool:
        """Return whether a further step would change anything."""

    def close(self) -> None:
        """Release the engine's resources."""


class Driver(Protocol):
    """Starts engines of one make. What else a driver may have is in ``optional.py``."""

    name: str
    capabilities: frozenset[str]

    def describe(self) -> str:
        """Return the engine and its version, for reports."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why this setup can't run here, as one sentence, or None.

        Must be fast: called before any engine is started.
        """

    def open(self, setup: EngineSetup) -> Session:
        """Start an engine. UnavailableError where that cannot work; ValueError for a wrong setup."""
