"""What a behaviour case does, and what must come of each thing it does."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints, model_validator

from harness.suites.schema.base import Ids, Length, MisfitError, Model, Number, Slug, Text, as_tuple, one_or_many
from harness.suites.schema.requests import Request, describe_request

Words = Annotated[str, StringConstraints(min_length=1)]
Requests = Annotated[tuple[Request, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Status = Annotated[int, Field(ge=100, le=599)]


class ErrorExpectation(Model):
    """An error whose message contains each of these texts. ``status`` and ``type`` are looked at over HTTP only."""

    message_contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()
    status: Status | None = None
    type: Words | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "ErrorExpectation":
        if not (self.message_contains or self.status or self.type):
            raise ValueError("say what the error is: message_contains, status or type")
        return self


class Outcome(Model):
    """What must come of an action. Lists go by answer: by request, and by sample where a request has several.

    ``text: reference`` is the text of Hugging Face's greedy tokens; ``same_as`` names an earlier action with the same
    texts, ``unlike`` one with others. ``logprobs: reference``: each token's is that of Hugging Face, with as many
    alternatives as were asked for. ``status`` and ``contains`` are of an ``http`` action.
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
    status: Status | None = None
    contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()

    @model_validator(mode="after")
    def _says_something(self) -> "Outcome":
        if not self.model_fields_set:
            what = "say what to expect: error, token_counts, finish_reasons or texts"
            raise MisfitError(what, hint="such as `{token_counts: [5]}`")
        if self.error and len(self.model_fields_set) > 1:
            raise MisfitError("an action that is an error has no other outcome", "error", hint="leave the rest out")
        return self


class Call(Request):
    """One request at the entry point. ``n`` answers; ``model`` another name than that of the engine's model."""

    n: Annotated[int, Field(gt=0, le=128)] = 1
    model: Text | None = None

    @model_validator(mode="after")
    def _all_at_once(self) -> "Call":
        refuse_timing(self)
        return self


class StreamCall(Call):
    """A streamed request. ``kind``: deltas, all so far each time, or one output at the end (over HTTP always deltas).

    ``leave_after``: the client goes away after so many pieces.
    """

    kind: Literal["delta", "cumulative", "final"] = "delta"
    leave_after: Number | None = None


class Message(Model):
    """One message of a conversation."""

    role: Words
    content: str


class Chat(Model):
    """A conversation to be continued, by the model's chat template."""

    messages: Annotated[tuple[Message, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    max_tokens: Length | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: int | None = None
    ignore_eos: bool = True
    stream: bool = False


class Leave(Model):
    """Every so many-th client of a flood goes away after so many pieces; ``every: 3`` is the third, the sixth, …"""

    every: Annotated[int, Field(gt=0)]
    after: Number = 1


class Flood(Model):
    """Many clients at once. ``call`` is what each asks; random prompts differ from client to client.

    Every client that stays must get what its request gets alone where it is greedy, and ``n`` answers of the right
    length in any case.
    """

    clients: Annotated[int, Field(gt=0, le=1000)]
    call: Call
    kind: Literal["whole", "delta", "cumulative", "final"] = "delta"
    leave: Leave | None = None


class Wait(Model):
    """Wait, a minute at most, until this is so; ``pieces``: so many have come ``of`` an action in the background.

    With ``before_tokens`` it must be so before that action has had so many tokens: time as the engine counts it.
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
    def looks_at_blocks(self) -> bool:
        """Whether it waits for what only an engine with metrics about its batch can tell."""
        return (self.tkv, self.used_blocks, self.reserved_blocks) != (None, None, None)

    @model_validator(mode="after")
    def _says_what_for(self) -> "Wait":
        if (self.pieces is None and self.before_tokens is None) != (self.of is None):
            raise ValueError("pieces or before_tokens, and of, go together: so many of that action")
        if not self.model_fields_set - {"before_tokens", "of"}:
            raise ValueError("say what to wait for: idle, running, waiting, end_of, or pieces and of")
        return self


class Figures(Model):
    """What a server counts: so much more of each than when the case began. Tokens of prompts, tokens generated.

    ``first_tokens`` and ``further_tokens`` are how many were timed: time to first token, inter-token latency.
    """

    prompt_tokens: Number | None = None
    generated_tokens: Number | None = None
    finished_requests: Number | None = None
    first_tokens: Number | None = None
    further_tokens: Number | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Figures":
        if not self.model_fields_set:
            raise ValueError(f"say which metrics: {', '.join(type(self).model_fields)}")
        return self


class RawHttp(Model):
    """An HTTP request as it is written: ``content`` is sent as JSON, ``body`` as it is, ``repeat_body`` times."""

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
            raise MisfitError("a request has content or a body, not both", "body")
        return self


class Check(Model):
    """A check written in Python, by its name; ``options`` are its keyword arguments."""

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
    """One thing done at an entry point, and what must come of it.

    With a ``name``, a ``complete``, ``stream`` or ``chat`` goes on in the background while the case goes on; others
    refer to it by that name, and what is expected of it is looked at when it has ended.
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
    metrics: Figures | None = None
    check: Annotated[Check, BeforeValidator(_by_name)] | None = None
    expect: Outcome | None = None

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def calls(self) -> tuple[Request, ...]:
        """The requests it makes, but for those of a chat, whose prompts a template makes."""
        if self.generate is not None:
            return self.generate
        call = self.complete or self.stream or (self.flood and self.flood.call)
        return (call,) if call else ()

    @property
    def compared(self) -> bool:
        """Whether what comes of it is compared with the reference."""
        return self.expect is not None and "reference" in (self.expect.text, self.expect.logprobs)

    @property
    def answers(self) -> int:
        """How many answers come of it."""
        return sum(getattr(call, "n", 1) for call in self.calls) if self.chat is None else 1

    def _unusual(self) -> dict[str, Any]:
        """What a call says beyond a request: samples, another model, who leaves and when."""
        call, leave = self.calls[0], self.flood and self.flood.leave
        said = {key: getattr(call, key, None) for key in ("n", "model", "leave_after")}
        said["leave"] = f"every {leave.every} after {leave.after} pieces" if leave else None
        return {key: value for key, value in said.items() if value is not None and (key, value) != ("n", 1)}

    @model_validator(mode="after")
    def _fits_together(self) -> "Action":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"an action is exactly one of {', '.join(KINDS)}"
            raise MisfitError(what, hint="such as `complete: {prompt: {text: a}, max_tokens: 5}`")
        kind = given[0]
        if kind in ANSWERING and self.expect is None and self.name is None:
            what = f"say what to expect of this {kind}"
            raise MisfitError(what, hint="such as `expect: {token_counts: [5]}`; with a `name` it may go without")
        if kind not in ANSWERING and self.expect is not None:
            raise MisfitError(f"nothing can be expected of a {kind}: it says itself what must be", "expect")
        if self.name is not None and kind not in ANSWERING:
            raise MisfitError(f"only {', '.join(ANSWERING)} can have a name", "name")
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
        """A line a request, or one for what is done."""
        kind = self.kind
        name = f" as {self.name}" if self.name else ""
        if self.generate is not None:
            return [f"generate{name} {describe_request(i, r)}" for i, r in enumerate(self.generate)]
        if self.calls:
            said = describe_request(0, self.calls[0]).removeprefix("request 0: ")
            who = f"{self.flood.clients} clients: " if self.flood else ""
            more = [f"{key} {value}" for key, value in self._unusual().items()]
            return [", ".join([f"{kind}{name} {who}{said}", *more])]
        value = getattr(self, kind)
        said = value if isinstance(value, str) else _shown(value)
        return [f"{kind}{name} {said}"]


def _shown(value: Model) -> str:
    return ", ".join(f"{key} {given}" for key, given in value.model_dump(exclude_defaults=True).items())[:200]


def refuse_timing(request: Request, *at: str | int) -> None:
    """Raise MisfitError where a request at an entry point says when it joins or is aborted, in engine steps."""
    for name, given in (("join_step", request.join_step > 0), ("abort_step", request.abort_step is not None)):
        if given:
            what = f"{name} belongs to a case that goes step by step: an entry point takes requests as they come"
            raise MisfitError(what, *at, name)
