"""The format of the cases of each kind of suite."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from harness.suites.schema.actions import Action, Requests, header_value
from harness.suites.schema.base import (
    About,
    MisfitError,
    Model,
    Names,
    Number,
    Requirements,
    Size,
    Slug,
    Text,
    as_tuple,
)
from harness.suites.schema.expect import EndExpectation, OutputExpectation, StepsExpectation, no_such_request
from harness.suites.schema.happens import Happenings
from harness.suites.schema.requests import Chunking, Limits, Request, TokenBudget, describe_request
from harness.suites.schema.schedulers import OPTION_KEYS
from harness.types import BLOCK_SIZE, blocks_for


class Case(Model):
    """The fields that cases of all kinds have."""

    id: Slug
    about: Annotated[About, StringConstraints(min_length=1)] = ""
    requirement: Requirements = ()
    markers: Names = ()
    limits: Limits = Limits()
    chunking: Chunking | None = None
    token_budget: TokenBudget | None = None

    @property
    def block_size(self) -> int:
        """Return the number of tokens in a block of the KV cache."""
        given = (getattr(self, key) for key in OPTION_KEYS)
        return next((options.tokens_in_a_block for options in given if options is not None), BLOCK_SIZE)

    def described(self) -> str:
        """Return a description of the case for reports, generated from its fields."""
        limits = ", ".join(f"{name} {value}" for name, value in self.limits.model_dump(exclude_none=True).items())
        words = [f"limits: {limits or 'as built'}"]
        for key, owner in OPTION_KEYS.items():
            if (options := getattr(self, key)) is not None:
                given = ", ".join(f"{name} {value}" for name, value in options)
                words.append(f"{owner.name.replace('_', ' ')}: {given}")
        return "; ".join(words)


class RequestsCase(Case):
    """The fields that scheduler-step and output cases have."""

    requests: Requests
    happens: Happenings = ()
    never: Happenings = ()

    @model_validator(mode="after")
    def _happens_to_requests_of_the_case(self) -> "RequestsCase":
        for name, happenings in (("happens", self.happens), ("never", self.never)):
            for i, happening in enumerate(happenings):
                if happening.request is not None and happening.request >= len(self.requests):
                    raise no_such_request(happening.request, len(self.requests), name, i)
        return self

    @model_validator(mode="after")
    def _happens_or_never(self) -> "RequestsCase":
        for i, never in enumerate(self.never):
            for happening in self.happens:
                if never.covers(happening):
                    what = f"{happening} must happen by `happens`, but {never} is listed under never"
                    raise MisfitError(what, "never", i, hint="remove one of them")
        return self

    @model_validator(mode="after")
    def _join_in_order(self) -> "RequestsCase":
        joins = [request.join_step for request in self.requests]
        for i, (earlier, later) in enumerate(pairwise(joins), start=1):
            if later < earlier:
                what = f"requests must be in the order of join_step, but {later} comes after {earlier}"
                raise MisfitError(what, "requests", i, "join_step", hint="list requests in the order of join_step")
        return self

    def request_beyond(self, available_blocks: int, *, rounds_first_prompt: bool) -> tuple[int, int] | None:
        """Return the first request that cannot run alone in ``available_blocks``, as (its number, blocks it needs).

        When a request ends, its prompt and all its generated tokens except the last are in the KV cache. With
        ``rounds_first_prompt``, the prompt of request 0 is rounded up to whole blocks, unless the request is aborted
        before it starts. Return None if every request fits.
        """
        for index, request in enumerate(self.requests):
            length = request.prompt.length or 1
            if rounds_first_prompt and index == 0 and request.abort_step != request.join_step:
                length = blocks_for(length, self.block_size) * self.block_size
            needed = blocks_for(length + request.max_tokens - 1, self.block_size)
            if needed > available_blocks:
                return index, needed
        return None

    def described(self) -> str:
        """Return the description of the limits, then a line for each request."""
        return "\n".join([super().described(), *(describe_request(i, r) for i, r in enumerate(self.requests))])

    @model_validator(mode="after")
    def _nothing_of_entry_points(self) -> "RequestsCase":
        for index, request in enumerate(self.requests):
            for name in ("prompt_logprobs", "truncate_prompt_tokens", "golden", "unchecked"):
                default = Request.model_fields[name].get_default(call_default_factory=True)
                if getattr(request, name) != default:
                    hint = "for golden tokens use `policy: golden`" if name == "golden" else "leave it out"
                    what = f"{name} is only allowed in behaviour cases"
                    raise MisfitError(what, "requests", index, name, hint=hint)
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> "RequestsCase":
        for key in OPTION_KEYS:
            if (options := getattr(self, key)) is not None:
                options.check_requests([(r.prompt.length or 1, r.max_tokens) for r in self.requests])
        return self

    def _refuse_sampling(self) -> None:
        """Raise MisfitError if a request is not greedy, because reference outputs exist only for greedy requests."""
        for index, request in enumerate(self.requests):
            if request.temperature > 0:
                what = "temperature must be 0 with `output: reference`, because references are greedy"
                raise MisfitError(what, "requests", index, "temperature", hint="use temperature 0, or `output: alone`")


class StepsCase(RequestsCase):
    """A scheduler-step case: after every engine step, the engine's state is compared with a row of a step table."""

    expect: StepsExpectation

    @model_validator(mode="after")
    def _fits_together(self) -> "StepsCase":
        if self.expect.output == "reference":
            self._refuse_sampling()
        self.expect.check_rows(len(self.requests))
        return self


class OutputCase(RequestsCase):
    """An output case: the generated tokens and logprobs are compared, but not the engine's steps."""

    expect: OutputExpectation

    @model_validator(mode="after")
    def _fits_together(self) -> "OutputCase":
        if self.expect.output == "reference":
            self._refuse_sampling()
        if self.expect.output == "alone":
            self._refuse_chance()
        if self.expect.output == "distribution":
            self._refuse_ends()
        if self.expect.output != "distribution":  # There, requests are not aborted.
            self._refuse_no_tokens()
        self.expect.check_groups(self.requests)
        return self

    def _refuse_no_tokens(self) -> None:
        """Raise MisfitError if no output that is compared can have a token, because comparing it can't fail."""
        alone = self.expect.output == "alone"
        compared = [(i, r) for i, r in enumerate(self.requests) if not alone or r.is_repeatable]
        groups: list[tuple[tuple[str | int, ...], list[Request]]]
        groups = [(("requests", compared[0][0], "abort_step"), [request for _, request in compared])]
        for i, group in enumerate(self.expect.same):
            inside = [self.requests[number] for number in group if number < len(self.requests)]
            groups.append((("expect", "same", i), inside))
        for at, requests in groups:
            if requests and not any(request.can_get_a_token for request in requests):
                what = "no request that is compared can get a token, because each is aborted before its first step"
                hint = "abort at least one of them later; a scheduler_steps suite can check the steps alone"
                raise MisfitError(what, *at, hint=hint)

    def _refuse_chance(self) -> None:
        """Raise MisfitError if no request is repeatable (greedy or seeded), because others are not compared."""
        if any(request.is_repeatable for request in self.requests):
            return
        what = "with `output: alone`, at least one request must be greedy or have a seed, to be reproducible"
        raise MisfitError(what, "requests", 0, "temperature", hint="such as `seed: 1`")

    def _refuse_ends(self) -> None:
        """Raise MisfitError for requests that can't be tested with ``output: distribution``.

        All runs of a request must have the same length, so no request may end before ``max_tokens``. Parameters that
        change the logits, such as penalties, are not supported.
        """
        for index, request in enumerate(self.requests):
            if not request.runs_to_max_tokens and request.prompt.length is not None:
                what = "with `output: distribution`, a request must run to max_tokens"
                raise MisfitError(what, "requests", index, hint="leave out stop, stop_token_ids and ignore_eos: false")
            if name := request.changes_logits:
                what = f"{name} is not allowed with `output: distribution`, because it changes the logits"
                raise MisfitError(what, "requests", index, name, hint="leave it out")


class ServerOptions(Model):
    """Options with which the server of a case is started, in addition to limits.

    ``max_queue`` is the maximum number of waiting requests; it also applies to in-process engines. ``max_body_bytes``
    is the maximum size of a request's body. ``drain_seconds`` is how long the server waits for running requests when
    it is stopped.
    """

    max_queue: Number | None = None
    api_key: Annotated[Text, AfterValidator(header_value)] | None = None
    max_body_bytes: Size | None = None
    drain_seconds: Annotated[float, Field(ge=0, le=60)] | None = None


class BehaviourCase(Case):
    """A behaviour case: a list of actions, such as sending a request, each with its expected outcome.

    The actions are performed in order. After the last one the engine must be idle.
    """

    server: ServerOptions = ServerOptions()
    actions: Annotated[tuple[Action, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    expect: EndExpectation = EndExpectation()

    @model_validator(mode="after")
    def _names_are_there(self) -> "BehaviourCase":
        known: dict[str, bool] = {}
        for i, action in enumerate(self.actions):
            for at, name in _references(action):
                if name not in known:
                    raise MisfitError(f"no action before this one has the name {name!r}", "actions", i, *at)
            if action.name in known:
                raise MisfitError(f"two actions have the name {action.name!r}", "actions", i, "name")
            if action.name is not None:
                known[action.name] = True
        return self

    def described(self) -> str:
        """Return the description of the limits, then a line for each action or request."""
        return "\n".join([super().described(), *(line for action in self.actions for line in action.described())])


def _references(action: Action) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of the field, name of the other action) for each field of ``action`` that names another action."""
    wait = action.wait
    places = (
        (("abort",), action.abort),
        (("disconnect",), action.disconnect),
        (("wait", "end_of"), wait and wait.end_of),
        (("wait", "of"), wait and wait.of),
        (("expect", "same_as"), action.expect and action.expect.same_as),
        (("expect", "unlike"), action.expect and action.expect.unlike),
    )
    yield from ((at, name) for at, name in places if name)
