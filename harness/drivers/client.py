"""An entry point from a client's view: the interface of behaviour cases, in-process or over HTTP.

Types here are independent of any engine. Methods that wait are coroutines, because a client sends concurrent requests.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.types import RequestSpec

HTTP = "http"
"""The entry point is a server: raw requests can be sent, and connections closed."""

ABORT = "abort"
"""Requests can be aborted; the client then gets the finish reason ``abort``."""

BLOCK_METRICS = "block-metrics"
"""The metrics include tkv and the numbers of used and reserved blocks."""

RESTART = "restart"
"""The server can be killed and started again."""


class ClientError(Exception):
    """The entry point answered with an error. ``status`` is HTTP's, ``kind`` and ``param`` OpenAI's; None without HTTP.

    ``kind`` is the type of the error, ``param`` the field of the request that is wrong.
    """

    def __init__(
        self, message: str, status: int | None = None, kind: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param


@dataclass(frozen=True)
class ClientRequest:
    """One request of a client.

    ``spec`` has the prompt and sampling parameters; ``messages`` (role, content) replace the prompt. ``name`` is unique
    for the client. ``kind`` of a stream: delta, cumulative or final. ``logprobs`` is the requested number of
    alternatives for each token; None: no logprobs at all.

    ``name`` is unique for the client. ``kind`` of a stream: delta, cumulative or final. ``logprobs`` is the requested
    number of alternatives for each token; None: no logprobs at all.
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
    """One event of a stream: by index of the answer, its new text, number of tokens and finish reason."""

    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class Choice:
    """One answer. ``tokens`` is their number, None if the entry point does not report it.

    ``logprobs`` goes by token; ``alternatives`` is the number returned for each token. Both are None if none were
    requested.
    """

    text: str
    tokens: int | None
    finish_reason: str | None
    logprobs: tuple[float, ...] | None = None
    alternatives: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """All answers to one request. ``usage``: (prompt tokens, generated tokens)."""

    choices: tuple[Choice, ...]
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawAnswer:
    """The response to a raw request. ``error`` is OpenAI's error object, if there is one."""

    status: int
    body: str
    error: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServingState:
    """Numbers of requests and blocks in use, None if the entry point does not report them."""

    waiting: int | None
    running: int | None
    used_blocks: int | None
    reserved_blocks: int | None
    tkv: int | None = None

    @property
    def idle(self) -> bool:
        return not any((self.waiting, self.running, self.used_blocks, self.reserved_blocks))


class Client(Protocol):
    """An open client of an entry point."""

    capabilities: frozenset[str]

    async def complete(self, request: ClientRequest) -> Answer:
        """Return the whole answer. Raises ClientError."""

    def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        """Return the answer in chunks.

        Closing the generator disconnects the client. Raises ClientError, also while streaming.
        """

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        """Return the answers to a list of prompts, passed to the engine together.

        Raises ClientError if one is refused.
        """

    async def abort(self, name: str) -> None:
        """Abort a request. For clients with ``abort`` only."""

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        """Send a raw request and return the response. For clients with ``http`` only."""

    async def state(self) -> ServingState:
        """Return the current state."""

    async def metrics(self) -> dict[str, int]:
        """Return the known ones of the counters ``prompt_tokens``, ``generated_tokens`` and ``finished_requests``.

        They count since the start of the server. For clients with ``http`` only.
        """

    async def healthy(self) -> bool:
        """Return whether the entry point reports that it is serving."""

    async def restart(self, how: str) -> None:
        """End the server with SIGKILL (``kill``) or SIGTERM (``stop``), and start it again.

        For clients with ``restart`` only. Raises ClientError if the server does not end after SIGTERM.

        Raises ClientError if the server does not end after SIGTERM.
        """

    @property
    def url(self) -> str:
        """Return the URL of the server. For clients with ``http`` only."""

    async def leave(self) -> None:
        """Release the resources of one case: connections, threads. The client can be used again."""

    def close(self) -> None:
        """Release all resources."""
