"""Suites: parameters and cases."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.suites.schema.base import MisfitError, Model, Names, Size, SuiteName, as_tuple, one_or_many
from harness.suites.schema.cases import BehaviourCase, Case, OutputCase, StepsCase
from harness.suites.schema.policy import PolicyName

MODELS_OF_THE_RUN = "$models"
Backend = Literal["eager", "inductor", "sendnn"]
EntryPoint = Literal["in-process", "http"]
Scheduler = Literal["continuous", "static", "chunked", "token_budget"]
OPTIONS: Mapping[str, Scheduler] = {"chunking": "chunked", "token_budget": "token_budget"}
"""Fields of a case that are options of one scheduler, and of which."""
Sizes = Annotated[tuple[Size, ...], BeforeValidator(one_or_many), Field(min_length=1)]


class Parameters(Model):
    """Every combination of these values is a test of its own."""

    model: Annotated[tuple[str, ...], BeforeValidator(one_or_many), Field(min_length=1)] = (MODELS_OF_THE_RUN,)
    backend: Annotated[tuple[Backend, ...], BeforeValidator(one_or_many), Field(min_length=1)] = ("eager",)
    max_num_seqs: Sizes | None = None
    tensor_parallel_size: Sizes = (1,)
    scheduler: Annotated[tuple[Scheduler, ...], BeforeValidator(one_or_many), Field(min_length=1)] = ("continuous",)
    entry_point: Annotated[tuple[EntryPoint, ...], BeforeValidator(one_or_many), Field(min_length=1)] = ("in-process",)
    policy: Annotated[tuple[PolicyName, ...], BeforeValidator(one_or_many), Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _no_repeats(self) -> "Parameters":
        for name in type(self).model_fields:
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise MisfitError(f"{name} names a value twice", name, hint="once makes all its tests")
        return self


class AnySuite(Model):
    """What suites of every kind have."""

    suite: SuiteName
    kind: str
    about: str = ""
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
                raise MisfitError(what, "cases", i, "id", hint="an id is a case's name forever; choose another one")
            seen.add(case.id)
        return self

    @model_validator(mode="after")
    def _options_belong_to_their_scheduler(self) -> "AnySuite":
        for field, scheduler in OPTIONS.items():
            if self.parameters.scheduler == (scheduler,):
                continue
            for i, case in enumerate(self.cases):
                if getattr(case, field) is not None:
                    what = f"{field} has options of scheduler {scheduler}, and this suite has others"
                    raise MisfitError(what, "cases", i, field, hint=f"say `scheduler: [{scheduler}]` in its parameters")
        return self

    @model_validator(mode="after")
    def _no_volume_without_tkv(self) -> "AnySuite":
        if "token_budget" not in self.parameters.scheduler:
            return self
        for i, case in enumerate(self.cases):
            if case.limits.max_batch_tkv_limit is not None:
                what = "the token-budget scheduler has no tkv, so no max_batch_tkv_limit"
                hint = "leave it out, or run this case on another scheduler"
                raise MisfitError(what, "cases", i, "limits", "max_batch_tkv_limit", hint=hint)
        return self


class StepsSuite(AnySuite):
    """A suite of scheduler-step cases."""

    kind: Literal["scheduler_steps"]
    cases: Annotated[tuple[StepsCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class OutputSuite(AnySuite):
    """A suite of output cases."""

    kind: Literal["output"]
    cases: Annotated[tuple[OutputCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class BehaviourSuite(AnySuite):
    """A suite of behaviour cases."""

    kind: Literal["behaviour"]
    cases: Annotated[tuple[BehaviourCase, ...], BeforeValidator(as_tuple), Field(min_length=1)]


Suite = Annotated[StepsSuite | OutputSuite | BehaviourSuite, Field(discriminator="kind")]
