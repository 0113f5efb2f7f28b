"""The format of a ``BehaviourCase``'s actions, such as sending a request or waiting."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from harness.suites.schema.base import Length, MisfitError, Model, Number, Slug, Text, as_tuple
from harness.suites.schema.outcome import Outcome, Words
from harness.suites.schema.requests import Request, describe_request
from harness.suites.schema.structured import StructuredOutputs

Requests = Annotated[tuple[Request, ...], BeforeValidator(as_tuple), Field(min_length=1)]
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")
_URL_PATH = re.compile(r"/[^\x00-\x1f\x7f]*")


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} can't be the name of a header: use letters, digits and -")
    return name


def header_value(value: str) -> str:
    """Check that an HTTP client can send ``value`` as the value of a header."""
    if not _HEADER_VALUE.fullmatch(value):
        what = "use ASCII characters, and no line breaks or spaces at the ends"
        raise ValueError(f"{value!r} can't be the value of a header: {what}")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]


class Call(Request):
    """One request to the entry point. ``n`` is the number of answers, ``model`` the model name to send.

    With ``echo`` (only for the entry point ``http``), the response has the prompt and its logprobs before the answer.
    """

    n: Annotated[int, Field(gt=0, le=128)] = 1
    model: Text | None = None
    echo: bool = False

    @model_validator(mode="after")
    def _all_at_once(self) -> "Call":
        refuse_timing(self)
        return self


class StreamCall(Call):
    """A request whose answer is streamed.

    ``kind`` is vLLM's RequestOutputKind: each chunk has the new text (``delta``) or all text so far (``cumulative``),
    or there is only one chunk, at the end (``final``). Over HTTP, the kind is always ``delta``. If ``leave_after`` is
    given, the client disconnects after that number of chunks.
    """

    kind: Literal["delta", "cumulative", "final"] = "delta"
    leave_after: Number | None = None


class Message(Model):
    """One message of a conversation."""

    role: Words
    content: str


class Chat(Model):
    """A conversation that the model continues. Its prompt is rendered with the model's chat template.

    Over HTTP, a JSON constraint in ``structured_outputs`` is sent as ``response_format``, the field of OpenAI's API.
    """

    messages: Annotated[tuple[Message, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    max_tokens: Length | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: int | None = None
    ignore_eos: bool = True
    structured_outputs: StructuredOutputs | None = None
    stream: bool = False


class Leave(Model):
    """Which clients of a flood disconnect: with ``every: 3``, every third one, after ``after`` chunks of its answer."""

    every: Annotated[int, Field(gt=0)]
    after: Number = 1


class Flood(Model):
    """Many clients that send requests at the same time. ``call`` is the request that each client sends.

    If the prompt is random, each client has a different prompt. Answers are streamed as in ``StreamCall``, or are not
    streamed if ``kind`` is ``whole``. Clients that stay connected must get ``n`` answers of ``max_tokens`` tokens. If
    the request is greedy, the answers must be those that the same request gets without other clients.
    """

    clients: Annotated[int, Field(gt=0, le=1000)]
    call: Call
    kind: Literal["whole", "delta", "cumulative", "final"] = "delta"
    leave: Leave | None = None


class Wait(Model):
    """Wait until a condition holds, for at most one minute.

    ``running``, ``waiting``, ``tkv``, ``used_blocks`` and ``reserved_blocks`` are values that the engine's state must
    reach. With ``end_of``, the background action with this name must end. With ``chunks``, the background action with
    the name ``of`` must receive this number of chunks. With ``before_tokens``, the case fails if the action ``of`` has
    already received this number of tokens when the condition becomes true.
    """

    idle: Literal[True] | None = None
    running: Number | None = None
    waiting: Number | None = None
    tkv: Number | None = None
    used_blocks: Number | None = None
    reserved_blocks: Number | None = None
    end_of: Slug | None = None
    chunks: Annotated[int, Field(gt=0)] | None = None
    before_tokens: Annotated[int, Field(gt=0)] | None = None
    of: Slug | None = None

    @property
    def needs_metrics(self) -> bool:
        """Return whether the condition is about tkv or blocks, which not every server reports in its metrics."""
        return (self.tkv, self.used_blocks, self.reserved_blocks) != (None, None, None)

    @model_validator(mode="after")
    def _has_a_condition(self) -> "Wait":
        if (self.chunks is None and self.before_tokens is None) != (self.of is None):
            raise ValueError(
                "`chunks` and `before_tokens` are only allowed with `of` (the name of an action), "
                "and `of` is only allowed with at least one of these two"
            )
        if not self.model_fields_set - {"before_tokens", "of"}:
            others = "idle, running, waiting, tkv, used_blocks, reserved_blocks, end_of"
            raise ValueError(f"give a condition: {others}, or chunks together with of")
        for name in ("running", "waiting", "used_blocks", "reserved_blocks"):
            if self.idle and getattr(self, name):
                what = f"an idle engine has {name} 0, not {getattr(self, name)}"
                raise MisfitError(what, name, hint=f"remove idle or {name}")
        return self


class ServerMetrics(Model):
    """The expected increases of a server's metrics since the start of the case.

    ``first_tokens`` is the number of observations in the histogram of the time to first token, and ``further_tokens``
    the number of observations in the histogram of the inter-token latency. ``prefix_queries`` is the number of prompt
    tokens that were looked up in the prefix cache, and ``prefix_hits`` the number that were not computed.
    """

    prompt_tokens: Number | None = None
    generated_tokens: Number | None = None
    finished_requests: Number | None = None
    aborted_requests: Number | None = None
    first_tokens: Number | None = None
    further_tokens: Number | None = None
    prefix_queries: Number | None = None
    prefix_hits: Number | None = None
    preemptions: Number | None = None
    pauses: Number | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ServerMetrics":
        if not self.model_fields_set:
            raise ValueError(f"give at least one metric: {', '.join(type(self).model_fields)}")
        return self


class RawHttp(Model):
    """An HTTP request. The body is ``content`` as JSON, or the string ``body`` repeated ``repeat_body`` times.

    The ``openai`` client sends GET and POST requests to paths below ``/v1/`` if their body is empty or a JSON object,
    they have no ``headers``, and ``raw`` is not set. httpx sends all other requests.
    """

    raw: bool = False
    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH"] = "POST"
    path: str = "/v1/completions"
    content: JsonValue = None
    body: str | None = None
    repeat_body: Length = 1
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_body(self) -> "RawHttp":
        if not self.path.startswith("/"):
            raise MisfitError(f"a path must begin with /, but this is {self.path!r}", "path")
        if not _URL_PATH.fullmatch(self.path):
            raise MisfitError(f"a path can't have control characters, but this is {self.path!r}", "path")
        if self.body is not None and self.content is not None:
            raise MisfitError("a request can't have both content and body", "body", hint="remove one of them")
        return self

    @property
    def by_openai(self) -> bool:
        """Return whether the ``openai`` client sends the request."""
        fits = {"GET": self.content is None, "POST": isinstance(self.content, dict)}.get(self.method, False)
        return fits and self.path.startswith("/v1/") and self.body is None and not (self.headers or self.raw)


class Check(Model):
    """A check that is written in Python (``harness/cases/behaviour/named.py``). ``options`` are keyword arguments."""

    name: Words
    options: dict[str, JsonValue] = Field(default_factory=dict)


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


KINDS = (
    "generate",
    "complete",
    "stream",
    "chat",
    "flood",
    "http",
    "wait",
    "abort",
    "disconnect",
    "restart",
    "metrics",
    "check",
)
ANSWERING = ("generate", "complete", "stream", "chat", "http")
OF_HTTP = ("status", "contains", "headers", "fields")
"""Keys of ``expect`` that are only for ``http`` actions."""
IN_BACKGROUND = ("complete", "stream", "chat")


class Action(Model):
    """One action of a behaviour case, and its expected outcome.

    A ``complete``, ``stream`` or ``chat`` action with a ``name`` runs in the background, and later actions can refer to
    the name. The outcome of a background action is checked when the action has ended.
    """

    name: Slug | None = None
    generate: Requests | None = None
    complete: Call | None = None
    stream: StreamCall | None = None
    chat: Chat | None = None
    flood: Flood | None = None
    http: RawHttp | None = None
    wait: Wait | None = None
    abort: Slug | None = None
    disconnect: Slug | None = None
    restart: Literal["kill", "stop"] | None = None
    metrics: ServerMetrics | None = None
    check: Annotated[Check, BeforeValidator(_by_name)] | None = None
    expect: Outcome | None = None

    @property
    def kind(self) -> str:
        """Return the kind of the action, such as ``generate``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def calls(self) -> tuple[Request, ...]:
        """Return the requests of the action. A ``chat`` action has none: a conversation is not a ``Request``."""
        if self.generate is not None:
            return self.generate
        call = self.complete or self.stream or (self.flood and self.flood.call)
        return (call,) if call else ()

    @property
    def compared(self) -> bool:
        """Return whether texts or logprobs of the action are compared with those of Hugging Face."""
        wanted = self.expect and (self.expect.text, self.expect.logprobs, self.expect.prompt_logprobs)
        return bool(wanted and "reference" in wanted) or any(call.golden for call in self.calls)

    @property
    def answers(self) -> int:
        """Return the number of answers that the action gets: ``n`` for each of its requests, 1 for a ``chat``."""
        return sum(getattr(call, "n", 1) for call in self.calls) if self.chat is None else 1

    def _call_fields(self) -> dict[str, Any]:
        """Return the fields of the action's request that ``Request`` does not have, to describe the action."""
        call, leave = self.calls[0], self.flood and self.flood.leave
        fields = {key: getattr(call, key, None) for key in ("n", "model", "leave_after")}
        fields["leave"] = f"every {leave.every} after {leave.after} chunks" if leave else None
        return {key: value for key, value in fields.items() if value is not None and (key, value) != ("n", 1)}

    @model_validator(mode="after")
    def _fits_together(self) -> "Action":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"an action must have exactly one of the keys {', '.join(KINDS)}"
            raise MisfitError(what, hint="such as `complete: {prompt: {text: a}, max_tokens: 5}`")
        kind = given[0]
        if kind in ANSWERING and self.expect is None and self.name is None:
            what = f"the key `expect` is missing for the action {kind}"
            raise MisfitError(what, hint="such as `expect: {token_counts: [5]}`; with a `name` it is optional")
        if kind not in ANSWERING and self.expect is not None:
            what = f"`expect` is not allowed for the action {kind}, only for {', '.join(ANSWERING)}"
            raise MisfitError(what, "expect")
        for name in sorted(self.expect.model_fields_set) if self.expect else ():
            if kind != "http" and name in OF_HTTP:
                raise MisfitError(f"{name} is only allowed for the action http", "expect", name, hint="remove it")
            if kind == "http" and name not in (*OF_HTTP, "error"):
                what = f"{name} is not compared for the action http, only error, {', '.join(OF_HTTP)}"
                raise MisfitError(what, "expect", name, hint="use `fields`")
        if self.name is not None and kind not in ANSWERING:
            raise MisfitError(f"only the actions {', '.join(ANSWERING)} can have a name", "name")
        if self.expect and self.expect.max_steps and kind != "generate":
            raise MisfitError("max_steps is only allowed for the action generate", "expect", "max_steps")
        self._lists_as_long()
        for i, request in enumerate(self.generate or ()):
            refuse_timing(request, "generate", i)
        return self

    def _lists_as_long(self) -> None:
        for name in ("token_counts", "finish_reasons", "texts"):
            given = getattr(self.expect, name, None)
            if given is not None and len(given) != self.answers:
                what = f"{name} must have one entry for each answer ({self.answers}), but has {len(given)}"
                raise MisfitError(what, "expect", name)

    def described(self) -> list[str]:
        """Return a description of the action: a line for each request, or one line if it has no requests."""
        kind = self.kind
        name = f" as {self.name}" if self.name else ""
        if self.generate is not None:
            return [f"generate{name} {describe_request(i, r)}" for i, r in enumerate(self.generate)]
        if self.calls:
            text = describe_request(0, self.calls[0]).removeprefix("request 0: ")
            clients = f"{self.flood.clients} clients: " if self.flood else ""
            more = [f"{key} {value}" for key, value in self._call_fields().items()]
            return [", ".join([f"{kind}{name} {clients}{text}", *more])]
        value = getattr(self, kind)
        return [f"{kind}{name} {value if isinstance(value, str) else _shown(value)}"]


def _shown(value: Model) -> str:
    return ", ".join(f"{key} {given}" for key, given in value.model_dump(exclude_defaults=True).items())[:200]


def refuse_timing(request: Request, *at: str | int) -> None:
    """Raise MisfitError if a request of an action has ``join_step`` or ``abort_step``.

    Actions run in real time, so their requests can't join or be aborted at a given engine step. ``at`` is the path of
    the request in the action.
    """
    for name, given in (("join_step", request.join_step > 0), ("abort_step", request.abort_step is not None)):
        if given:
            what = f"{name} is only allowed in scheduler-step and output cases, not in actions"
            raise MisfitError(what, *at, name)
