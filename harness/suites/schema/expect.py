"""The format of the key ``expect`` of each kind of case."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, TypeAdapter, WithJsonSchema, model_validator

from harness.suites.schema.base import Ids, MisfitError, Model, as_tuple
from harness.suites.schema.policy import PolicyChoice
from harness.suites.schema.requests import Limits
from harness.suites.schema.schedulers import CELLS, FORMATS, columns_of_cells, format_of_row, no_row
from harness.types import StepRow


def _adapter(columns: tuple[str, ...]) -> TypeAdapter[Any]:
    cells: Any = tuple[tuple(CELLS[column] for column in columns)]  # type: ignore[misc]
    return TypeAdapter(cells)


_ROWS = {known.columns: _adapter(known.columns) for known in FORMATS.values()}


def _as_row(value: Any) -> StepRow:
    if not isinstance(value, list | tuple):
        raise no_row("something else")
    columns = columns_of_cells(value)
    cells = dict(zip(columns, _ROWS[columns].validate_python(tuple(value), strict=True), strict=True))
    return StepRow(**{"tkv": None, **cells})


def no_such_request(request: int, requests: int, *at: str | int) -> MisfitError:
    """Return the error for a request number ``request`` that is too large for a case with ``requests`` requests.

    ``at`` is the path of the number in the suite.
    """
    hint = f"requests are numbered from 0 to {requests - 1}" if requests > 1 else "the only request is 0"
    return MisfitError(f"the case has no request {request}", *at, hint=hint)


def _row_schema() -> dict[str, Any]:
    """Return the JSON Schema of a row of any scheduler, for editors."""
    return {"anyOf": [row.json_schema() for row in _ROWS.values()]}


if TYPE_CHECKING:
    Row = StepRow
else:
    Row = Annotated[StepRow, PlainValidator(_as_row), WithJsonSchema(_row_schema())]
StepTable = Annotated[tuple[Row, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class StepsExpectation(Model):
    """The expectation of a scheduler-step case.

    ``steps`` is the expected step table as a list of rows, or ``golden`` if the table is in a golden file. With
    ``output: reference``, the output of each request is also compared with Hugging Face's on CPU, by ``policy``.
    With ``output: none``, outputs are not compared.
    """

    steps: Literal["golden"] | StepTable
    output: Literal["reference", "none"] = "reference"
    policy: PolicyChoice | None = None

    @model_validator(mode="after")
    def _rows_go_up(self) -> "StepsExpectation":
        if self.steps != "golden":
            for i, (earlier, later) in enumerate(pairwise(self.steps), start=1):
                if later.step <= earlier.step:
                    what = f"rows must be in the order of steps, but step {later.step} comes after {earlier.step}"
                    raise MisfitError(
                        what,
                        "steps",
                        i,
                        0,
                        hint="rows between them can be left out if they only repeat a decode of the same requests",
                    )
        return self

    def check_rows(self, requests: int) -> None:
        """Raise MisfitError if a row names a request that the case does not have."""
        for i, row in enumerate(() if self.steps == "golden" else self.steps):
            for column, name in enumerate(format_of_row(row).columns):
                ids: Any = getattr(row, name)
                for j, named in enumerate(ids if isinstance(ids, tuple) else ()):
                    request = named[0] if isinstance(named, tuple) else named
                    if request >= requests:
                        raise no_such_request(request, requests, "expect", "steps", i, column, j)

    @model_validator(mode="after")
    def _policy_has_a_use(self) -> "StepsExpectation":
        if self.policy is not None and self.output != "reference":
            what = "policy is only used with `output: reference`, but the output is none"
            raise MisfitError(what, "policy", hint="use `output: reference`, or remove policy")
        return self


Group = Annotated[Ids, Field(min_length=2)]


class OutputExpectation(Model):
    """The expectation of an output case.

    - ``output: reference``: each request gets the output of Hugging Face on CPU, compared by ``policy``.
    - ``output: alone``: each request gets the same tokens and logprobs as without other requests, on the same engine.
    - ``output: distribution``: each request is run ``draws`` times with different seeds. The tokens of these runs must
      have the distribution that follows from the request's sampling parameters and Hugging Face's logits.

    ``same`` lists groups of requests that must get the same tokens. ``unlike`` lists groups in which no two requests
    may get the same tokens. Requests are given by their position in the case.
    """

    output: Literal["reference", "alone", "distribution"]
    policy: PolicyChoice | None = None
    draws: Annotated[int, Field(gt=0, le=10_000)] | None = None
    same: Annotated[tuple[Group, ...], BeforeValidator(as_tuple)] = ()
    unlike: Annotated[tuple[Group, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _policy_has_a_use(self) -> "OutputExpectation":
        if self.policy is not None and self.output != "reference":
            what = f"policy is only used with `output: reference`, but the output is {self.output}"
            raise MisfitError(what, "policy", hint="use `output: reference`, or remove policy")
        return self

    @model_validator(mode="after")
    def _draws_belong_to_a_distribution(self) -> "OutputExpectation":
        if (self.draws is not None) != (self.output == "distribution"):
            what = (
                "`output: distribution` needs `draws` (how often to run each request); other outputs can't have `draws`"
            )
            raise MisfitError(what, hint="such as `{output: distribution, draws: 50}`")
        return self

    def check_groups(self, requests: Sequence[object]) -> None:
        """Raise MisfitError if ``same`` or ``unlike`` names a request that the case does not have.

        A group with the same request twice, and groups that contradict each other, are also errors.
        """
        for name, groups in (("same", self.same), ("unlike", self.unlike)):
            for i, group in enumerate(groups):
                for j, request in enumerate(group):
                    if request >= len(requests):
                        raise no_such_request(request, len(requests), "expect", name, i, j)
                    if request in group[:j]:
                        what = f"the group has request {request} twice"
                        raise MisfitError(what, "expect", name, i, j, hint="compare different requests")
        self._check_unlike()

    def _check_unlike(self) -> None:
        """Raise MisfitError if two requests must get the same tokens by ``same``, but different ones by ``unlike``."""
        alike: dict[int, set[int]] = {}
        for group in self.same:
            joined = set(group).union(*(alike.get(request, ()) for request in group))
            alike.update(dict.fromkeys(joined, joined))
        for i, group in enumerate(self.unlike):
            for first, second in combinations(group, 2):
                if second in alike.get(first, ()):
                    what = f"requests {first} and {second} must get the same tokens by `same`"
                    raise MisfitError(what, "expect", "unlike", i, hint="remove them from one of the two")


class EndExpectation(Model):
    """The expectation of a behaviour case: the state of the engine after the last action, and the engine's limits.

    With ``idle``, no request may be waiting or running, and no block may be in use. ``limits`` are the effective limits
    that the engine must report. Limits that the engine does not report are not checked.
    """

    engine: Literal["idle"] = "idle"
    limits: Limits = Limits()
