"""The suite file format, as pydantic models. docs/writing-cases.md explains it; ``spyre-cb schema`` exports it.

Types are strict: ``max_tokens: "5"`` or ``id: yes`` (which YAML reads as true) is an error, not a guess. What a
model cannot say about one field alone is said by a validator whose message fits on one line.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    StringConstraints,
    model_validator,
)

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=100)]
SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", max_length=200)]
MarkerName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=60)]
RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z]+(-[A-Z0-9]+)+$", max_length=60)]
MODELS_OF_THE_RUN = "$models"
BLOCK_SIZE = 64
Backend = Literal["eager", "inductor", "sendnn"]
Scheduler = Literal["continuous", "static"]

# Bounds far above any engine, so that a slip of the keyboard is an error here and not an hour or a full memory there.
MOST = 1_000_000_000
LONGEST = 1_000_000
Size = Annotated[int, Field(gt=0, le=MOST)]
Number = Annotated[int, Field(ge=0, le=MOST)]
Length = Annotated[int, Field(gt=0, le=LONGEST)]
StepNumber = Annotated[int, Field(ge=0, le=LONGEST)]


class MisfitError(ValueError):
    """Fields that are wrong together; ``at`` leads from the model to the one that shows it."""

    def __init__(self, what: str, *at: str | int) -> None:
        super().__init__(what)
        self.at = at


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one_or_many(value: Any) -> Any:
    """A single value where a list may stand: the list of it."""
    return _as_tuple(value) if isinstance(value, list | tuple) or value is None else (value,)


class Model(BaseModel):
    """Strict, closed and frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Prompt(Model):
    """Exactly one way of saying what the prompt is.

    ``random_tokens: n`` is n tokens that depend on the case's id and the request's position only, never on
    special tokens; ``text`` goes through the model's tokenizer; ``token_ids`` are taken as they are.
    """

    random_tokens: Length | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)] | None = None
    token_ids: Annotated[tuple[Number, ...], BeforeValidator(_as_tuple), Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Prompt":
        if len(self.model_fields_set) != 1 or getattr(self, next(iter(self.model_fields_set))) is None:
            raise ValueError("a prompt says exactly one of random_tokens, text, token_ids")
        return self


class Request(Model):
    """One request. Greedy and running to ``max_tokens`` (end of text ignored) unless it says otherwise.

    ``simulated_tokens`` stand for a model's in simulation, where something may end the request early; with a
    model they must be what it generates.
    """

    prompt: Prompt
    max_tokens: Length
    join_step: StepNumber = 0
    abort_step: StepNumber | None = None
    ignore_eos: bool = True
    temperature: NonNegativeFloat = 0.0
    top_k: Number = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=LONGEST)] = 0
    stop: Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_one_or_many)] = ()
    stop_token_ids: Annotated[tuple[Number, ...], BeforeValidator(_as_tuple)] = ()
    simulated_tokens: Annotated[tuple[Number, ...], BeforeValidator(_as_tuple)] = ()

    @model_validator(mode="after")
    def _in_order(self) -> "Request":
        if self.abort_step is not None and self.abort_step < self.join_step:
            raise MisfitError(f"abort_step {self.abort_step} is before join_step {self.join_step}", "abort_step")
        if self.min_tokens > self.max_tokens:
            raise MisfitError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}", "min_tokens")
        return self

    @property
    def can_be_simulated(self) -> bool:
        """Whether its schedule is known without a model: nothing can end it early, or its tokens are given."""
        return bool(self.simulated_tokens) or (self.ignore_eos and not self.stop and not self.stop_token_ids)

    @property
    def runs_to_max_tokens(self) -> bool:
        """Whether nothing but ``max_tokens`` can end it, so that its schedule does not depend on any token."""
        return self.prompt.text is None and self.ignore_eos and not self.stop and not self.stop_token_ids


class Limits(Model):
    """What scheduling may use; what is not said is what the engine was built with."""

    max_model_len: Size | None = None
    max_num_seqs: Size | None = None
    available_blocks: Size | None = None
    max_batch_tkv_limit: Size | None = None


Ids = Annotated[tuple[Number, ...], BeforeValidator(_as_tuple)]


class StepRow(NamedTuple):
    """One row of a step table. Requests are named by their position in the case, from 0.

    ``running`` is newest first, ``outputs`` those that got a token in the step that just ran, ``finished`` those
    of them that ended. Rows that are left out between two given ones are plain decodes: tkv grows by one, the
    same sequences run, nobody comes or goes, no block is taken.
    """

    step: StepNumber
    tkv: Number
    waiting: Ids
    running: Ids
    outputs: Ids
    finished: Ids
    reserved: Number
    used: Number


def _as_row(value: Any) -> Any:
    columns = StepRow._fields
    given = f"{len(value)} values" if isinstance(value, list | tuple) else "something else"
    if given != f"{len(columns)} values":
        raise ValueError(f"a row is a list of {len(columns)} ({', '.join(columns)}), not {given}")
    return tuple(value)


Row = Annotated[StepRow, BeforeValidator(_as_row)]
StepTable = Annotated[tuple[Row, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class StepsExpectation(Model):
    """``steps`` is ``golden`` (a file in expectations/) or rows given right here.

    ``output: reference`` asks that every sequence also equals Hugging Face on CPU; ``none`` looks at the
    schedule only.
    """

    steps: Literal["golden"] | StepTable
    output: Literal["reference", "none"] = "reference"

    @model_validator(mode="after")
    def _rows_go_up(self) -> "StepsExpectation":
        if self.steps != "golden":
            for i, (earlier, later) in enumerate(pairwise(self.steps), start=1):
                if later.step <= earlier.step:
                    what = f"step numbers must rise from row to row: {later.step} after {earlier.step}"
                    raise MisfitError(what, "steps", i, 0)
        return self


class OutputExpectation(Model):
    """Every sequence equals Hugging Face on CPU: the same tokens, each logprob within both tolerances."""

    output: Literal["reference"]
    rel_tol: Annotated[float, Field(gt=0)] = 0.35
    abs_tol: Annotated[float, Field(gt=0)] = 0.01


class ErrorExpectation(Model):
    """An error whose message contains each of these texts."""

    message_contains: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(_one_or_many), Field(min_length=1)
    ]


class GenerateExpectation(Model):
    """What comes of one ``generate``: an error, or so many tokens from each request, ended for these reasons."""

    error: ErrorExpectation | None = None
    token_counts: Annotated[tuple[Number, ...], BeforeValidator(_as_tuple)] | None = None
    finish_reasons: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "GenerateExpectation":
        if not self.model_fields_set:
            raise ValueError("say what to expect: error, token_counts or finish_reasons")
        if self.error and len(self.model_fields_set) > 1:
            raise MisfitError("a generate that is an error has no token_counts or finish_reasons", "error")
        return self


Requests = Annotated[tuple[Request, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Action(Model):
    """One thing done at the offline front door, and what must come of it."""

    generate: Requests
    expect: GenerateExpectation

    @model_validator(mode="after")
    def _as_many(self) -> "Action":
        for name in ("token_counts", "finish_reasons"):
            given = getattr(self.expect, name)
            if given is not None and len(given) != len(self.generate):
                raise MisfitError(f"{len(self.generate)} requests but {len(given)} {name}", "expect", name)
        for i, request in enumerate(self.generate):
            for name, given in (("join_step", request.join_step > 0), ("abort_step", request.abort_step is not None)):
                if given:
                    what = f"{name} belongs to a case that goes step by step: generate takes all at once"
                    raise MisfitError(what, "generate", i, name)
        return self


class EndExpectation(Model):
    """How the engine must be left: ``idle`` is nothing waiting, running or held."""

    engine: Literal["idle"] = "idle"


Names = Annotated[tuple[MarkerName, ...], BeforeValidator(_one_or_many)]
Requirements = Annotated[tuple[RequirementId, ...], BeforeValidator(_one_or_many)]


class Case(Model):
    """What every case has, of whichever kind."""

    id: Slug
    about: Annotated[str, StringConstraints(min_length=1)] = ""
    requirement: Requirements = ()
    markers: Names = ()
    limits: Limits = Limits()

    def described(self) -> str:
        """A description made from the data, so that it cannot disagree with it."""
        limits = ", ".join(f"{name} {value}" for name, value in self.limits.model_dump(exclude_none=True).items())
        return f"limits: {limits or 'as built'}"


class _RequestsCase(Case):
    requests: Requests

    @model_validator(mode="after")
    def _join_in_order(self) -> "_RequestsCase":
        joins = [request.join_step for request in self.requests]
        for i, (earlier, later) in enumerate(pairwise(joins), start=1):
            if later < earlier:
                what = f"join steps go backwards: {later} after {earlier}; list requests as they join"
                raise MisfitError(what, "requests", i, "join_step")
        return self

    def described(self) -> str:
        """Limits, then a line a request."""
        return "\n".join([super().described(), *(describe_request(i, r) for i, r in enumerate(self.requests))])

    @model_validator(mode="after")
    def _blocks_are_enough(self) -> "_RequestsCase":
        """Even without any padding a request holds its prompt and all new tokens but the last."""
        available = self.limits.available_blocks
        for index, request in enumerate(self.requests):
            length = request.prompt.random_tokens or len(request.prompt.token_ids or ())
            needed = -(-(length + request.max_tokens - 1) // BLOCK_SIZE)
            if available is not None and needed > available:
                what = (
                    f"request {index} needs at least {needed} blocks of {BLOCK_SIZE} tokens, and there are {available}"
                )
                raise MisfitError(what, "limits", "available_blocks")
        return self

    def _refuse_sampling(self) -> None:
        """Greedy decoding is the only thing there is a reference for."""
        for index, request in enumerate(self.requests):
            if request.temperature > 0:
                raise MisfitError(
                    "a request that samples has no reference to compare with: temperature must be 0 here",
                    "requests",
                    index,
                    "temperature",
                )


class StepsCase(_RequestsCase):
    """A scheduler-step case."""

    expect: StepsExpectation

    @model_validator(mode="after")
    def _reference_is_greedy(self) -> "StepsCase":
        if self.expect.output == "reference":
            self._refuse_sampling()
        return self


class OutputCase(_RequestsCase):
    """An output case."""

    expect: OutputExpectation

    @model_validator(mode="after")
    def _reference_is_greedy(self) -> "OutputCase":
        self._refuse_sampling()
        return self


class BehaviourCase(Case):
    """A behaviour case: actions one after the other, then a look at the engine."""

    actions: Annotated[tuple[Action, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    expect: EndExpectation = EndExpectation()

    def described(self) -> str:
        """Limits, then what is done."""
        lines = [super().described()]
        for action in self.actions:
            lines.extend(f"generate {describe_request(i, r)}" for i, r in enumerate(action.generate))
        return "\n".join(lines)


class Parameters(Model):
    """Every combination of these values is a test of its own."""

    model: Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)] = (MODELS_OF_THE_RUN,)
    backend: Annotated[tuple[Backend, ...], BeforeValidator(_one_or_many), Field(min_length=1)] = ("eager",)
    max_num_seqs: Annotated[tuple[Size, ...], BeforeValidator(_one_or_many), Field(min_length=1)] | None = None
    tensor_parallel_size: Annotated[tuple[Size, ...], BeforeValidator(_one_or_many), Field(min_length=1)] = (1,)
    scheduler: Annotated[tuple[Scheduler, ...], BeforeValidator(_one_or_many), Field(min_length=1)] = ("continuous",)

    @model_validator(mode="after")
    def _no_repeats(self) -> "Parameters":
        for name in type(self).model_fields:
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise MisfitError(f"{name} names a value twice", name)
        return self


class _Suite(Model):
    suite: SuiteName
    kind: str
    about: str = ""
    markers: Names = ()
    parameters: Parameters = Parameters()
    max_tests: Size = 200

    cases: Sequence[Case]

    @model_validator(mode="after")
    def _no_repeated_ids(self) -> "_Suite":
        seen: set[str] = set()
        for i, case in enumerate(self.cases):
            if case.id in seen:
                raise MisfitError(
                    f"two cases have the id {case.id!r}; an id is a case's name forever", "cases", i, "id"
                )
            seen.add(case.id)
        return self


class StepsSuite(_Suite):
    """A suite of scheduler-step cases."""

    kind: Literal["scheduler_steps"]
    cases: Annotated[tuple[StepsCase, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class OutputSuite(_Suite):
    """A suite of output cases."""

    kind: Literal["output"]
    cases: Annotated[tuple[OutputCase, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class BehaviourSuite(_Suite):
    """A suite of behaviour cases."""

    kind: Literal["behaviour"]
    cases: Annotated[tuple[BehaviourCase, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


Suite = Annotated[StepsSuite | OutputSuite | BehaviourSuite, Field(discriminator="kind")]


def describe_request(index: int, request: Request) -> str:
    """One request in words, from its data."""
    prompt = request.prompt
    if prompt.random_tokens is not None:
        what = f"{prompt.random_tokens} random tokens"
    elif prompt.token_ids is not None:
        what = f"{len(prompt.token_ids)} given tokens"
    else:
        what = f"text {prompt.text!r}"
    words = [f"request {index}: {what}, max_tokens {request.max_tokens}"]
    if request.join_step:
        words.append(f"joins at step {request.join_step}")
    if request.abort_step is not None:
        words.append(f"is aborted at step {request.abort_step}")
    plain = Request(prompt=prompt, max_tokens=request.max_tokens)
    for name in (
        "ignore_eos",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "seed",
        "min_tokens",
        "stop",
        "stop_token_ids",
    ):
        if getattr(request, name) != getattr(plain, name):
            words.append(f"{name} {getattr(request, name)}")
    return ", ".join(words)
