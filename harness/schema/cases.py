"""The cases of each kind."""

from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from harness.schema.base import BLOCK_SIZE, MisfitError, Model, Names, Requirements, Slug, as_tuple
from harness.schema.expect import EndExpectation, GenerateExpectation, OutputExpectation, StepsExpectation
from harness.schema.requests import Limits, Request, describe_request

Requests = Annotated[tuple[Request, ...], BeforeValidator(as_tuple), Field(min_length=1)]


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
            needed = -(-((request.prompt.length or 0) + request.max_tokens - 1) // BLOCK_SIZE)
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
    def _fits_together(self) -> "OutputCase":
        if self.expect.output == "reference":
            self._refuse_sampling()
        for index, request in enumerate(self.requests):
            if request.temperature > 0 and request.seed is None:
                what = "a request that samples needs a seed: without one nothing says what it should get"
                raise MisfitError(what, "requests", index, "temperature")
        self.expect.check_same(self.requests)
        return self


class Action(Model):
    """One thing done at the offline front door, and what must come of it."""

    generate: Requests
    expect: GenerateExpectation

    @model_validator(mode="after")
    def _as_many(self) -> "Action":
        for name in ("token_counts", "finish_reasons", "texts"):
            given = getattr(self.expect, name)
            if given is not None and len(given) != len(self.generate):
                raise MisfitError(f"{len(self.generate)} requests but {len(given)} {name}", "expect", name)
        for i, request in enumerate(self.generate):
            for name, given in (("join_step", request.join_step > 0), ("abort_step", request.abort_step is not None)):
                if given:
                    what = f"{name} belongs to a case that goes step by step: generate takes all at once"
                    raise MisfitError(what, "generate", i, name)
        return self


class BehaviourCase(Case):
    """A behaviour case: actions one after the other, then a look at the engine."""

    actions: Annotated[tuple[Action, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    expect: EndExpectation = EndExpectation()

    def described(self) -> str:
        """Limits, then what is done."""
        lines = [super().described()]
        for action in self.actions:
            lines.extend(f"generate {describe_request(i, r)}" for i, r in enumerate(action.generate))
        return "\n".join(lines)
