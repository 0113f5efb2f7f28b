"""``Client``: the interface with which behaviour cases use an engine, either in this process or over HTTP.

Behaviour cases send requests and check the answers. The types in this module do not depend on any engine. Methods that
wait for the engine are coroutines, because a client has several requests at the same time.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from harness.types import RequestSpec

HTTP = "http"
"""Capability: the client is connected to a server, and can send it raw HTTP requests."""

ABORT = "abort"
"""Capability: a request can be aborted. Its finish reason is then ``abort``."""

BLOCK_METRICS = "block-metrics"
"""Capability: the client can observe tkv, and the numbers of used and reserved blocks."""

RESTART = "restart"
"""Capability: the server can be stopped or killed, and started again."""


class ClientError(Exception):
    """The engine answered a request with an error.

    ``status`` is the HTTP status. ``kind`` and ``param`` are the fields ``type`` and ``param`` of OpenAI's error
    object; ``param`` names the wrong field of the request. The three are None if the client does not use HTTP.
    """

    def __init__(
        self, message: str, status: int | None = None, kind: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param


class NoResponseError(ClientError):
    """A server gave no complete HTTP response and no error: the connection failed, broke, or carried something else."""


@dataclass(frozen=True)
class ClientRequest:
    """One request of a client.

    ``name`` is unique among the requests of the client. ``spec`` has the prompt and the sampling parameters. If
    ``messages``, a conversation as (role, content) pairs, is not empty, it is sent instead of the prompt. ``n`` is the
    number of answers to generate. ``kind`` is vLLM's RequestOutputKind for streams: ``delta``, ``cumulative`` or
    ``final``. ``logprobs`` is the number of top tokens whose logprobs are returned with each token, None for no
    logprobs. ``model`` is the model's name in an HTTP request, None for the model that the server serves. With
    ``echo``, the answer begins with the prompt.
    """

    name: str
    spec: RequestSpec
    n: int = 1
    model: str | None = None
    messages: tuple[tuple[str, str], ...] = ()
    kind: str = "delta"
    logprobs: int | None = None
    echo: bool = False


class Logprobs(NamedTuple):
    """Logprobs of consecutive tokens.

    ``own`` has the logprob of each token, and ``alternatives`` the logprobs of all tokens that are listed at its
    position, in any order. An API may list the token itself in addition to the top tokens.
    """

    own: tuple[float | None, ...]
    alternatives: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class StreamChunk:
    """One chunk of a streamed answer.

    The keys of the dicts are the indices of the request's answers. ``texts`` has the new text of an answer, ``tokens``
    the number of its new tokens, and ``finish_reasons`` its finish reason. ``logprobs`` has the logprobs of the new
    tokens, if the request asks for them. ``prompt_logprobs`` has the logprobs of all tokens of the prompt. In a stream
    of kind ``cumulative`` or ``final``, the entry of an answer without them is None; in other streams, such an answer
    has no entry. ``usage`` is (number of prompt tokens, number of generated tokens).
    """

    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: tuple[int, int] | None = None
    logprobs: dict[int, Logprobs] = field(default_factory=dict)
    prompt_logprobs: dict[int, Logprobs | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """One answer to a request.

    ``tokens`` is the number of tokens of the answer, None if it is not reported. ``logprobs`` has the logprob of each
    token, and ``alternatives`` the logprobs of all tokens listed at its position (see Logprobs). If the request asks
    for no logprobs, ``logprobs`` is None and ``alternatives`` is empty. ``prompt_logprobs`` and ``prompt_alternatives``
    have the same two values for each token of the prompt; for its first token they are None and ().
    """

    text: str
    tokens: int | None
    finish_reason: str | None
    logprobs: tuple[float | None, ...] | None = None
    alternatives: tuple[tuple[float, ...], ...] = ()
    prompt_logprobs: tuple[float | None, ...] | None = None
    prompt_alternatives: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Answer:
    """All answers to one request. ``usage`` is (number of prompt tokens, number of generated tokens)."""

    choices: tuple[Choice, ...]
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class RawAnswer:
    """The response to a raw HTTP request. ``error`` is OpenAI's error object, empty if the body has none.

    The names of ``headers`` are in lower case.
    """

    status: int
    body: str
    error: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServingState:
    """The state of an engine: numbers of requests and blocks, and tkv. Values that are not reported are None."""

    waiting: int | None
    running: int | None
    used_blocks: int | None
    reserved_blocks: int | None
    tkv: int | None = None

    @property
    def idle(self) -> bool:
        return not any((self.waiting, self.running, self.used_blocks, self.reserved_blocks))


class Client(Protocol):
    """A client of an engine, in this process or over HTTP."""

    capabilities: frozenset[str]

    async def complete(self, request: ClientRequest) -> Answer:
        """Send a request without streaming and return the answer. Raises ClientError if the engine refuses or fails."""

    def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        """Send a request and yield the chunks of its answer.

        Closing the generator disconnects the client. Raises ClientError if the engine refuses the request, or if the
        engine fails in the middle of the stream.
        """

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        """Pass a list of requests to the engine's offline API together, and return their answers.

        Raises ClientError if one of them is refused.
        """

    async def abort(self, name: str) -> None:
        """Abort the request with this name. Only clients with the capability ``abort`` can do this."""

    async def call(self, method: str, path: str, content: Any) -> RawAnswer:
        """Send ``content`` as JSON with the ``openai`` package. Return the response, even if its status is an error.

        ``method`` is GET or POST, and ``path`` begins with ``/v1/``. With ``content`` None, the request has no body.
        Only clients with the capability ``http`` can do this. Raises ClientError if there is no response.
        """

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        """Send a raw HTTP request and return the response. Only clients with the capability ``http`` can do this."""

    async def state(self) -> ServingState:
        """Return the current state of the engine."""

    async def metrics(self) -> dict[str, int]:
        """Return the values of the server's counters, such as ``prompt_tokens``, since the server was started.

        Counters that the server does not have are left out. Only clients with the capability ``http`` can do this.
        """

    async def healthy(self) -> bool:
        """Return whether the engine reports that it can serve requests."""

    async def restart(self, how: str) -> None:
        """End the server, and start it again. ``how`` is ``kill`` (with SIGKILL) or ``stop`` (with SIGTERM).

        Only clients with the capability ``restart`` can do this. Raises ClientError if the server does not end after
        SIGTERM.
        """

    @property
    def url(self) -> str:
        """Return the URL of the server. Only clients with the capability ``http`` have one."""

    async def leave(self) -> None:
        """Close the connections and threads that a case has used. Afterwards another case can use the client."""

    def close(self) -> None:
        """Release all resources of the client. Afterwards the client can't be used."""
