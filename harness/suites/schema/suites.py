"""The pydantic models of suite files of each kind: scheduler-step, output and behaviour suites."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.suites.schema.base import About, MisfitError, Model, Names, Size, SuiteName, as_tuple, one_or_many
from harness.suites.schema.cases import BehaviourCase, Case, OutputCase, RequestsCase, StepsCase
from harness.suites.schema.policy import PolicyName
from harness.suites.schema.schedulers import FORMATS, OPTION_KEYS, Scheduler, schedulers_with
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER

MODELS_OF_THE_RUN = "$models"
Backend = Literal["eager", "inductor", "sendnn"]
EntryPoint = Literal["in-process", "http"]
Sizes = Annotated[tuple[Size, ...], BeforeValidator(one_or_many), Field(min_length=1)]


class Parameters(Model):
    """The parameters of a suite, each with a list of values. Each case runs with every combination of these values."""

    model: Annotated[tuple[str, ...], BeforeValidator(one_or_many), Field(min_length=1)] = (MODELS_OF_THE_RUN,)
    backend: Annotated[tuple[Backend, ...], BeforeValidator(one_or_many), Field(min_length=1)] = ("eager",)
    max_num_seqs: Sizes | None = None
    tensor_parallel_size: Sizes = (1,)
    scheduler: Annotated[tuple[Scheduler, ...], BeforeValidator(one_or_many), Field(min_length=1)] = (
        DEFAULT_SCHEDULER,
    )
    entry_point: Annotated[tuple[EntryPoint, ...], BeforeValidator(one_or_many), Field(min_length=1)] = ("in-process",)
    policy: Annotated[tuple[PolicyName, ...], BeforeValidator(one_or_many), Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _no_repeats(self) -> "Parameters":
        for name in type(self).model_fields:
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise MisfitError(f"the parameter {name} lists a value twice", name, hint="list each value once")
        return self


class AnySuite(Model):
    """The fields that suites of all kinds have."""

    suite: SuiteName
    kind: str
    about: About = ""
    markers: Names = ()
    parameters: Parameters = Parameters()
    max_tests: Size = 200

    cases: Sequence[Case]

    @model_validator(mode="after")
    def _no_repeated_ids(self) -> "AnySuite":
        seen: set[str] = set()
        for i, case in enumerate(self.cases):
            if case.id in seen:
                what = f"two cases have the id {case.id!r}"
                raise MisfitError(what, "cases", i, "id", hint="choose another id: ids identify cases permanently")
            seen.add(case.id)
        return self

    @model_validator(mode="after")
    def _options_belong_to_the_scheduler(self) -> "AnySuite":
        for key, owner in OPTION_KEYS.items():
            if self.parameters.scheduler == (owner.name,):
                continue
            for i, case in enumerate(self.cases):
                if getattr(case, key) is not None:
                    given = ", ".join(self.parameters.scheduler)
                    what = f"{key} is for the scheduler {owner.name}, but the suite's parameter scheduler is {given}"
                    hint = f"use `scheduler: [{owner.name}]` in the suite's parameters"
                    raise MisfitError(what, "cases", i, key, hint=hint)
        return self

    @model_validator(mode="after")
    def _limits_belong_to_the_scheduler(self) -> "AnySuite":
        for name in self.parameters.scheduler:
            for limit, why in FORMATS[name].limits_it_lacks.items():
                for i, case in enumerate(self.cases):
                    if getattr(case.limits, limit) is not None:
                        hint = "remove it, or run this case on another scheduler"
                        raise MisfitError(why, "cases", i, "limits", limit, hint=hint)
        return self

    @model_validator(mode="after")
    def _events_can_happen(self) -> "AnySuite":
        given = self.parameters.scheduler
        for i, case in enumerate(self.cases):
            for key in ("happens", "never") if isinstance(case, RequestsCase) else ():
                for j, happening in enumerate(getattr(case, key)):
                    owners = schedulers_with(happening.event)
                    if owners and set(owners).isdisjoint(given):
                        what = f"{happening.event} can't happen with the scheduler {', '.join(given)}"
                        raise MisfitError(what, "cases", i, key, j, hint=f"only with {', '.join(owners)}")
        return self

    @model_validator(mode="after")
    def _block_sizes_run_on_the_backends(self) -> "AnySuite":
        for i, case in enumerate(self.cases):
            if case.block_size != BLOCK_SIZE and "sendnn" in self.parameters.backend:
                given = ", ".join(self.parameters.backend)
                what = f"block_size {case.block_size} does not run on backend sendnn, and the suite's parameter backend"
                hint = f"use {BLOCK_SIZE}, or move the case to a suite without this backend"
                raise MisfitError(f"{what} is {given}", "cases", i, "token_budget", "block_size", hint=hint)
        return self

    @model_validator(mode="after")
    def _blocks_are_enough(self) -> "AnySuite":
        rounds = any(FORMATS[name].rounds_first_prompt for name in self.parameters.scheduler)
        for i, case in enumerate(self.cases):
            available = case.limits.available_blocks
            if available is None or not isinstance(case, RequestsCase):
                continue
            if beyond := case.request_beyond(available, rounds_first_prompt=rounds):
                request, needed = beyond
                what = (
                    f"request {request} needs at least {needed} blocks of {case.block_size} tokens, "
                    f"but available_blocks is {available}"
                )
                hint = f"use {needed} or more, or smaller requests"
                raise MisfitError(what, "cases", i, "limits", "available_blocks", hint=hint)
        return self


class StepsSuite(AnySuite):
    """A suite whose cases compare the engine's state with a step table after every engine step."""

    kind: Literal["scheduler_steps"]
    cases: Annotated[tuple[StepsCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class OutputSuite(AnySuite):
    """A suite whose cases compare generated tokens and logprobs, but not the engine's steps."""

    kind: Literal["output"]
    cases: Annotated[tuple[OutputCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class BehaviourSuite(AnySuite):
    """A suite whose cases send requests to an engine or a server, and check the answers."""

    kind: Literal["behaviour"]
    cases: Annotated[tuple[BehaviourCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


Suite = Annotated[StepsSuite | OutputSuite | BehaviourSuite, Field(discriminator="kind")]
