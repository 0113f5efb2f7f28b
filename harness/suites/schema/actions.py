"""Actions of behaviour cases, and the expected outcome of each."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints, model_validator

from harness.suites.schema.base import Ids, Length, MisfitError, Model, Number, Slug, Text, as_tuple, one_or_many
from harness.suites.schema.requests import Request, describe_request
from harness.suites.schema.structured import StructuredOutputs

Words = Annotated[str, StringConstraints(min_length=1)]
Requests = Annotated[tuple[Request, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Status = Annotated[int, Field(ge=100, le=599)]


class ErrorExpectation(Model):
    """An error whose message contains each of these texts.

    ``status``, ``type`` and ``param``, the field of the request that is wrong, are checked over HTTP only.
    """

    message_contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()
    status: Status | None = None
    type: Words | None = None
    param: Words | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ErrorExpectation":
        if not (self.message_contains or self.status or self.type or self.param):
            raise ValueError("give at least one of message_contains, status, type and param")
        return self


class StepBounds(Model):
    """The most engine steps that any request of a ``generate`` may take. There are no bounds in seconds.

    ``queue``: from joining the queue to the first step that computes its tokens. ``first_token``: from joining the
    queue to its first token. ``between``: from any of its tokens to the next.
    """

    queue: Number | None = None
    first_token: Length | None = None
    between: Length | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "StepBounds":
        if not self.model_fields_set:
            raise ValueError("give at least one of queue, first_token and between, in steps")
        return self


class Outcome(Model):
    """The expected outcome of an action. Lists have one item for each answer: by request, then by sample.

    ``text: reference`` is the text of Hugging Face's greedy tokens. ``same_as`` names an earlier action with equal
    texts, ``unlike`` an earlier action with different texts. ``logprobs: reference``: logprobs equal Hugging Face's,
    with the requested number of alternatives. ``max_steps`` is for ``generate`` in process, ``status`` and ``contains``
    are for ``http`` actions.
    """

    error: ErrorExpectation | None = None
    token_counts: Ids | None = None
    finish_reasons: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] | None = None
    texts: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] | None = None
    text: Literal["reference"] | None = None
    same_as: Slug | None = None
    unlike: Slug | None = None
    logprobs: Literal["reference"] | None = None
    usage: bool | None = None
    max_steps: StepBounds | None = None
    status: Status | None = None
    contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()

    @model_validator(mode="after")
    def _is_not_empty(self) -> "Outcome":
        if not self.model_fields_set:
            what = "give at least one of error, token_counts, finish_reasons and texts"
            raise MisfitError(what, hint="such as `{token_counts: [5]}`")
        if self.error and len(self.model_fields_set) > 1:
            raise MisfitError("an outcome with error can't have other keys", "error", hint="remove the other keys")
        return self


class Call(Request):
    """One request at the entry point. ``n`` is the number of samples; ``model`` overrides the engine's model name."""

    n: Annotated[int, Field(gt=0, le=128)] = 1
    model: Text | None = None

    @model_validator(mode="after")
    def _all_at_once(self) -> "Call":
        refuse_timing(self)
        return self


class StreamCall(Call):
    """A streamed request. ``kind``: delta, cumulative or final-only output (over HTTP always delta).

    ``leave_after``: the client disconnects after this number of chunks.
    """

    kind: Literal["delta", "cumulative", "final"] = "delta"
    leave_after: Number | None = None


class Message(Model):
    """One message of a conversation."""

    role: Words
    content: str


class Chat(Model):
    """A conversation to be continued, rendered with the model's chat template.

    Over HTTP ``structured_outputs`` of JSON are sent as ``response_format``, as OpenAI has it.
    """

    messages: Annotated[tuple[Message, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    max_tokens: Length | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: int | None = None
    ignore_eos: bool = True
    structured_outputs: StructuredOutputs | None = None
    stream: bool = False


class Leave(Model):
    """Every ``every``-th client of a flood disconnects after some chunks; ``every: 3`` is the third, the sixth, …"""

    every: Annotated[int, Field(gt=0)]
    after: Number = 1


class Flood(Model):
    """Many concurrent clients. ``call`` is the request of each; random prompts differ from client to client.

    The answer of a client that stays connected must equal the answer to its request alone, if the request is greedy. In
    any case it must have ``n`` samples of the right length.
    """

    clients: Annotated[int, Field(gt=0, le=1000)]
    call: Call
    kind: Literal["whole", "delta", "cumulative", "final"] = "delta"
    leave: Leave | None = None


class Wait(Model):
    """Wait for a condition, for at most one minute.

    ``pieces``: the background action ``of`` has received so many chunks. With ``before_tokens``, the condition must
    hold before that action has received so many tokens.

    With ``before_tokens``, the condition must hold before that action has received so many tokens.
    """

    idle: Literal[True] | None = None
    running: Number | None = None
    waiting: Number | None = None
    tkv: Number | None = None
    used_blocks: Number | None = None
    reserved_blocks: Number | None = None
    end_of: Slug | None = None
    pieces: Annotated[int, Field(gt=0)] | None = None
    before_tokens: Annotated[int, Field(gt=0)] | None = None
    of: Slug | None = None

    @property
    def needs_metrics(self) -> bool:
        """Return whether the condition needs an engine with metrics about its batch."""
        return (self.tkv, self.used_blocks, self.reserved_blocks) != (None, None, None)

    @model_validator(mode="after")
    def _has_a_condition(self) -> "Wait":
        if (self.pieces is None and self.before_tokens is None) != (self.of is None):
            raise ValueError("pieces and before_tokens need of, and of needs one of them")
        if not self.model_fields_set - {"before_tokens", "of"}:
            raise ValueError("give a condition: idle, running, waiting, end_of, or pieces and of")
        return self


class ServerMetrics(Model):
    """Expected increases of a server's metrics since the start of the case.

    ``first_tokens`` and ``further_tokens`` are numbers of observations: of time to first token and inter-token latency.
    ``prefix_queries`` and ``prefix_hits`` count prompt tokens that were looked up and found in the prefix cache.
    """

    prompt_tokens: Number | None = None
    generated_tokens: Number | None = None
    finished_requests: Number | None = None
    first_tokens: Number | None = None
    further_tokens: Number | None = None
    prefix_queries: Number | None = None
    prefix_hits: Number | None = None
    preemptions: Number | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ServerMetrics":
        if not self.model_fields_set:
            raise ValueError(f"give at least one metric: {', '.join(type(self).model_fields)}")
        return self


class RawHttp(Model):
    """A raw HTTP request. ``content`` is sent as JSON; ``body`` is sent unchanged, ``repeat_body`` times."""

    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH"] = "POST"
    path: str = "/v1/completions"
    content: JsonValue = None
    body: str | None = None
    repeat_body: Length = 1
    headers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_body(self) -> "RawHttp":
        if not self.path.startswith("/"):
            raise MisfitError(f"a path begins with /, not {self.path!r}", "path")
        if self.body is not None and self.content is not None:
            raise MisfitError("content and body exclude each other", "body", hint="remove one of them")
        return self


class Check(Model):
    """A named check written in Python. ``options`` are its keyword arguments."""

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
IN_BACKGROUND = ("complete", "stream", "chat")


class Action(Model):
    """One action at an entry point, and its expected outcome.

    A ``complete``, ``stream`` or ``chat`` action with a ``name`` runs in the background. Later actions refer to it by
    that name; its outcome is checked when it has ended.
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
        """Return the kind of the action."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def calls(self) -> tuple[Request, ...]:
        """Return the requests of the action, without those of a chat, whose prompts come from a template."""
        if self.generate is not None:
            return self.generate
        call = self.complete or self.stream or (self.flood and self.flood.call)
        return (call,) if call else ()

    @property
    def compared(self) -> bool:
        """Return whether the outcome is compared with the reference."""
        return self.expect is not None and "reference" in (self.expect.text, self.expect.logprobs)

    @property
    def answers(self) -> int:
        """Return the number of answers of the action."""
        return sum(getattr(call, "n", 1) for call in self.calls) if self.chat is None else 1

    def _call_fields(self) -> dict[str, Any]:
        """Return the fields of a call that a request does not have: samples, another model, disconnecting."""
        call, leave = self.calls[0], self.flood and self.flood.leave
        fields = {key: getattr(call, key, None) for key in ("n", "model", "leave_after")}
        fields["leave"] = f"every {leave.every} after {leave.after} pieces" if leave else None
        return {key: value for key, value in fields.items() if value is not None and (key, value) != ("n", 1)}

    @model_validator(mode="after")
    def _fits_together(self) -> "Action":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"an action is exactly one of {', '.join(KINDS)}"
            raise MisfitError(what, hint="such as `complete: {prompt: {text: a}, max_tokens: 5}`")
        kind = given[0]
        if kind in ANSWERING and self.expect is None and self.name is None:
            what = f"the key `expect` is missing for this {kind}"
            raise MisfitError(what, hint="such as `expect: {token_counts: [5]}`; with a `name` it is optional")
        if kind not in ANSWERING and self.expect is not None:
            raise MisfitError(f"expect is not allowed for a {kind}: its own keys are the expectation", "expect")
        if self.name is not None and kind not in ANSWERING:
            raise MisfitError(f"only {', '.join(ANSWERING)} can have a name", "name")
        if self.expect and self.expect.max_steps and kind != "generate":
            raise MisfitError("max_steps is only allowed for generate", "expect", "max_steps")
        self._lists_as_long()
        for i, request in enumerate(self.generate or ()):
            refuse_timing(request, "generate", i)
        return self

    def _lists_as_long(self) -> None:
        for name in ("token_counts", "finish_reasons", "texts"):
            given = getattr(self.expect, name, None)
            if given is not None and len(given) != self.answers:
                raise MisfitError(f"{self.answers} answers but {len(given)} {name}", "expect", name)

    def described(self) -> list[str]:
        """Return a line for each request, or one line for an action of another kind."""
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
        text = value if isinstance(value, str) else _shown(value)
        return [f"{kind}{name} {text}"]


def _shown(value: Model) -> str:
    return ", ".join(f"{key} {given}" for key, given in value.model_dump(exclude_defaults=True).items())[:200]


def refuse_timing(request: Request, *at: str | int) -> None:
    """Raise MisfitError if a request at an entry point has ``join_step`` or ``abort_step`` (engine steps)."""
    for name, given in (("join_step", request.join_step > 0), ("abort_step", request.abort_step is not None)):
        if given:
            what = f"{name} is only allowed in steps and output cases: at an entry point requests have no steps"
            raise MisfitError(what, *at, name)
