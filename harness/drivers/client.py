"""An entry point as its clients see it: what behaviour cases knock on, in-process or over HTTP.

Values here belong to no engine. Everything that waits is a coroutine: a client sends many requests at once.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.types import RequestSpec

HTTP = "http"
"""Requests can be sent as they are written, and connections broken off: there is a server."""

ABORT = "abort"
"""A request can be ended from outside, and its client is told: the finish reason is ``abort``."""

BLOCK_METRICS = "block-metrics"
"""Its metrics tell tkv, and how many blocks are used and reserved."""

RESTART = "restart"
"""The client can be closed by force and opened again."""


class ClientError(Exception):
    """The client answered with an error. ``status`` and ``kind`` are HTTP's and OpenAI's; None where there are none."""

    def __init__(self, message: str, status: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind


@dataclass(frozen=True)
class ClientRequest:
    """One request of one client. ``spec`` has prompt and sampling; ``messages`` (role, content) stand in its place.

    ``name`` tells it from all others at this client. ``kind`` is how a stream comes: delta, cumulative or final.
    ``logprobs``: how many alternatives are wanted at each token, None: not even its own.
    """

    name: str
    spec: RequestSpec
    n: int = 1
    model: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    kind: str = "delta"
    logprobs: int | None = None


@dataclass(frozen=True)
class StreamChunk:
    """What one event of a stream brings: to each answer, by index, its new text, number of tokens and reason of end."""

    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class Choice:
    """One answer. ``tokens``: how many, None where the client does not say.

    ``logprobs`` by token, and ``alternatives``, how many the client gave at each; None where none were asked for.
    """

    text: str
    tokens: int | None
    finish_reason: str | None
    logprobs: tuple[float, ...] | None = None
    alternatives: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """All answers to one request. ``usage``: tokens of the prompt, tokens generated."""

    choices: tuple[Choice, ...]
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawAnswer:
    """What came of a request that was sent as it is written; ``error`` is OpenAI's object, where there is one."""

    status: int
    body: str
    error: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServingState:
    """What is under way and held; None where the client does not tell."""

    waiting: int | None
    running: int | None
    used_blocks: int | None
    reserved_blocks: int | None
    tkv: int | None = None

    @property
    def idle(self) -> bool:
        return not any((self.waiting, self.running, self.used_blocks, self.reserved_blocks))


class Client(Protocol):
    """One client, open."""

    capabilities: frozenset[str]

    async def complete(self, request: ClientRequest) -> Answer:
        """The whole answer at once. Raises ClientError."""

    def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        """The answer in pieces; closing the generator is going away. Raises ClientError, also in the middle."""

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        """All of them together, as a list of prompts is given to an engine. Raises ClientError where one is refused."""

    async def abort(self, name: str) -> None:
        """End a request. Clients with ``abort`` only."""

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        """A request as it is written. Clients with ``http`` only."""

    async def state(self) -> ServingState:
        """What is under way now."""

    async def metrics(self) -> dict[str, int]:
        """What it has counted since it began: ``prompt_tokens``, ``generated_tokens``, ``finished_requests``, those it
        knows. Clients with ``http`` only.
        """

    async def healthy(self) -> bool:
        """Whether it says that it serves."""

    async def restart(self, how: str) -> None:
        """End it, by force (``kill``) or asking it to (``stop``), and open it again. Clients with ``restart`` only.

        Raises ClientError where it does not end when it is asked to.
        """

    @property
    def url(self) -> str:
        """Where the server is. Clients with ``http`` only."""

    async def leave(self) -> None:
        """Give back what belongs to one case: connections, threads. The client can be knocked on again."""

    def close(self) -> None:
        """Give back everything."""
