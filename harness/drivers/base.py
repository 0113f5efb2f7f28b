"""The interface that a driver must implement, and the types that it uses. This module does not depend on any engine.

A driver gets requests and limits, and returns what the engine does. It never gets the expectations of a case.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token, Write

STEP_TRACE = "step-trace"
"""Capability: the engine can be run step by step, and its queues can be observed after each step."""
TOKENS = "tokens"
"""Capability: the engine runs a model, so that its tokens can be compared with reference outputs."""
BLOCK_ACCOUNTING = "block-accounting"
"""Capability: the numbers of reserved and of used blocks can be observed."""
LOGPROBS = "logprobs"
"""Capability: generated tokens have logprobs and, if a request asks for alternatives, the top tokens."""
OFFLINE_API = "offline-api"
"""Capability: the driver has an offline API in this process that takes lists of prompts, like ``LLM.generate``."""
ASYNC_API = "async"
"""Capability: the driver has an API in this process for concurrent clients and streams, like vLLM's ``AsyncLLM``."""
GOLDEN_TOKENS = "golden-tokens"
"""Capability: the driver can make the engine generate given tokens, and return the model's logprobs of them."""
STRUCTURED_OUTPUTS = "structured-outputs"
"""Capability: answers can be constrained by a JSON schema, a regular expression, a list of strings, or a grammar."""
PROMPT_LOGPROBS = "prompt-logprobs"
"""Capability: the logprobs of the tokens of a prompt can be returned."""
PAUSING = "pausing"
"""Capability: the chunked scheduler pauses running requests if batch size x tkv would otherwise exceed its limit.

A driver whose engines have other schedulers need not have this capability.
"""


class RefusedError(Exception):
    """The engine refused a request, for example because its prompt is too long. The message is the engine's."""


class UnavailableError(Exception):
    """The driver, or an engine with a certain setup, can't run on this machine.

    The message says why and what to do. Tests that need the driver or the engine are skipped with this reason.
    """


class Observation(NamedTuple):
    """The state of an engine between two steps. A field is None if the driver can't observe it.

    Requests are named by ``RequestSpec.request_id``. Each field means the same as the column of ``StepRow`` with the
    same name. ``n_reserved_blocks`` and ``n_used_blocks`` mean the same as the columns ``reserved`` and ``used``.
    ``paused`` is None except with the chunked scheduler. With the token-budget scheduler, ``scheduled``, ``preempted``
    and ``hits`` are about the last step, and empty before the first step. With other schedulers, ``scheduled`` and
    ``preempted`` are None.
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
    """The result of one step.

    ``kind`` is ``prefill``, ``decode``, ``mixed`` (some requests are in their prefill, others decode) or ``idle`` (no
    request is scheduled). ``request_outputs`` has the requests that got a token. ``tokens`` has one token for each of
    these requests, in the same order. ``block_tables`` has the ids of the blocks that each of these requests held in
    the step, also in the same order, and for each request the oldest block first. ``block_tables`` is empty if the
    driver can't observe block ids.

    The token-budget scheduler differs in two ways. ``block_tables`` has an entry for each request in
    ``Observation.scheduled``, in that order, also for requests that ended in the step. A request decodes in a step if
    it was running before the step, and the step computes only the last of the tokens that the request has so far.
    Otherwise the request is in its prefill, also when it is computed again after a preemption.

    ``writes`` is what the step wrote to the KV cache, None if the driver can't observe it.
    """

    kind: str
    request_outputs: tuple[int, ...]
    finished_requests: tuple[int, ...]
    tokens: tuple[Token, ...]
    block_tables: tuple[tuple[int, ...], ...] = ()
    writes: tuple[Write, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """The result of the offline API for one request.

    ``prompt_logprobs`` has the logprob of each token of the prompt, None for the first token. ``prompt_alternatives``
    has, for each position of the prompt, the logprobs of all tokens that are listed there.
    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    prompt_logprobs: tuple[float | None, ...] | None = None
    prompt_alternatives: tuple[tuple[float, ...], ...] = ()


class Compilation(NamedTuple):
    """What an engine has compiled. ``engine`` identifies the engine among the engines of all processes of a run.

    ``graphs`` is the number of graphs that were compiled before the first request, and ``recompiles`` the number of
    graphs compiled since then. ``shared`` is how many of ``graphs`` had already been compiled for another engine.
    """

    engine: str
    backend: str
    graphs: int
    recompiles: int
    shared: int = 0


class Session(Protocol):
    """A started engine. Methods that a driver's sessions can have in addition are in ``optional.py``."""

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        """Remove all requests and set the limits, without restarting the engine.

        A limit that is None is set back to the value with which the engine was started, which is its maximum. Return
        the limits that the engine has now; those that the driver can't read are None. Raises ValueError if the engine
        can't be run with these limits.
        """

    def add_request(self, request: RequestSpec) -> None:
        """Add a request to the queue of the engine core, without the checks of an API.

        Raises ValueError if the engine core refuses the request, for example because it can't compile its structured
        outputs. The message is the engine's.
        """

    def abort(self, request_id: int) -> None:
        """Abort a request between two steps. Do nothing if the request has already ended."""

    def step(self) -> StepRecord:
        """Run one step of the engine, even if it has no work."""

    def observe(self) -> Observation:
        """Return the current observable state."""

    def has_work(self) -> bool:
        """Return whether another step would change the state of the engine, for example because it frees blocks."""

    def close(self) -> None:
        """Release the engine's resources."""


class Driver(Protocol):
    """Starts engines, for example those of vLLM. Methods that a driver can have in addition are in ``optional.py``."""

    name: str
    capabilities: frozenset[str]

    def describe(self) -> str:
        """Return the name and the version of the engine, for reports."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why an engine with this setup can't run on this machine, as one sentence. Return None if it can run.

        This method is called for every test before any engine is started, so it must be fast.
        """

    def open(self, setup: EngineSetup) -> Session:
        """Start an engine.

        Raises UnavailableError if the engine can't run on this machine, and ValueError if the setup is invalid.
        """
