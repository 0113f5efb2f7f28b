"""What a case expects."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from harness.suites.schema.base import MOST, Ids, MisfitError, Model, Number, StepNumber, as_tuple
from harness.suites.schema.policy import PolicyChoice
from harness.suites.schema.requests import Limits
from harness.types import StepRow


class _Cells(NamedTuple):
    """The columns that every scheduler's rows have, as pydantic checks them."""

    step: StepNumber
    tkv: Number
    waiting: Ids
    running: Ids
    outputs: Ids
    finished: Ids
    reserved: Number
    used: Number


COLUMNS = _Cells._fields
CHUNKED_COLUMNS = (*COLUMNS, "paused", "hits")
TOKEN_BUDGET_COLUMNS = (
    "step",
    "scheduled",
    "waiting",
    "running",
    "outputs",
    "finished",
    "preempted",
    "used",
    "hits",
)


def _as_row(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """A row by its length and its second cell: that is tkv, a number, or what a token budget ``scheduled``, a list."""
    length = len(value) if isinstance(value, list | tuple) else None
    if length is not None and length > 1 and isinstance(value[1], list | tuple):
        return _as_token_budget_row(value, check)
    if length not in (len(COLUMNS), len(CHUNKED_COLUMNS)):
        given = "something else" if length is None else f"{length} values"
        what = f"a row is a list of {len(COLUMNS)} ({', '.join(COLUMNS)}), not {given}"
        raise MisfitError(what, hint="such as `[1, 64, [], [0], [0], [], 2, 1]`")
    row = StepRow(*check(tuple(value[: len(COLUMNS)])))
    if length == len(COLUMNS):
        return row
    paused, hits = value[len(COLUMNS) :]
    if not _are_numbers(paused):
        raise MisfitError("paused is a list of requests", len(COLUMNS), hint="such as `[2, 0]`")
    return row._replace(paused=tuple(paused), hits=_pairs(hits, "hits", "blocks", len(COLUMNS) + 1))


def _as_token_budget_row(value: Sequence[Any], check: ValidatorFunctionWrapHandler) -> StepRow:
    if len(value) != len(TOKEN_BUDGET_COLUMNS):
        columns = ", ".join(TOKEN_BUDGET_COLUMNS)
        what = f"a row with scheduled tokens is a list of {len(TOKEN_BUDGET_COLUMNS)} ({columns}), not {len(value)}"
        raise MisfitError(what, hint="such as `[1, [[0, 64]], [], [0], [0], [], [], 1, []]`")
    given = dict(zip(TOKEN_BUDGET_COLUMNS, value, strict=True))
    scheduled, hits = (_pairs(given[n], n, "tokens", TOKEN_BUDGET_COLUMNS.index(n)) for n in ("scheduled", "hits"))
    preempted = given["preempted"]
    if not _are_numbers(preempted):
        place = TOKEN_BUDGET_COLUMNS.index("preempted")
        raise MisfitError("preempted is a list of requests", place, hint="such as `[2, 1]`")
    # There is no tkv and nothing is reserved.
    row = StepRow(*check(tuple(given.get(column, 0) for column in COLUMNS)))
    return row._replace(reserved=None, scheduled=scheduled, preempted=tuple(preempted), hits=hits)


def _pairs(value: Any, name: str, unit: str, place: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list | tuple) or not all(_are_numbers(pair) and len(pair) == 2 for pair in value):
        raise MisfitError(f"{name} is a list of [request, {unit}]", place, hint="such as `[[1, 2]]`")
    return tuple((request, number) for request, number in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(number) is int and 0 <= number <= MOST for number in value)


def no_such_request(request: int, requests: int, *at: str | int) -> MisfitError:
    """The error for a request that a case does not have."""
    hint = f"they are numbered from 0 to {requests - 1}" if requests > 1 else "the only one is 0"
    return MisfitError(f"there is no request {request}", *at, hint=hint)


def _row_schema() -> dict[str, Any]:
    number, ids = {"type": "integer", "minimum": 0}, {"type": "array", "items": {"type": "integer", "minimum": 0}}
    pairs = {"type": "array", "items": {**ids, "minItems": 2, "maxItems": 2}}
    columns = [number, number, ids, ids, ids, ids, number, number, ids, pairs]
    tokens = [number, pairs, ids, ids, ids, ids, ids, number, pairs]
    return {
        "anyOf": [
            {"type": "array", "prefixItems": columns[:size], "minItems": size, "maxItems": size}
            for columns, size in ((columns, len(COLUMNS)), (columns, len(columns)), (tokens, len(tokens)))
        ]
    }


if TYPE_CHECKING:
    Row = StepRow
else:
    Row = Annotated[_Cells, WrapValidator(_as_row), WithJsonSchema(_row_schema())]
StepTable = Annotated[tuple[Row, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class StepsExpectation(Model):
    """``steps`` is ``golden`` (a file in expectations/) or rows given right here.

    ``output: reference`` asks that every sequence also equals Hugging Face on CPU, by ``policy``; ``none`` looks at
    the schedule only.
    """

    steps: Literal["golden"] | StepTable
    output: Literal["reference", "none"] = "reference"
    policy: PolicyChoice | None = None

    @model_validator(mode="after")
    def _rows_go_up(self) -> "StepsExpectation":
        if self.steps != "golden":
            for i, (earlier, later) in enumerate(pairwise(self.steps), start=1):
                if later.step <= earlier.step:
                    what = f"step numbers must rise from row to row: {later.step} after {earlier.step}"
                    raise MisfitError(
                        what, "steps", i, 0, hint="rows in between that are plain decodes can be left out"
                    )
        return self

    def check_rows(self, requests: int) -> None:
        """Raise MisfitError where a row names a request that is not there."""
        for i, row in enumerate(() if self.steps == "golden" else self.steps):
            for column, name in enumerate(CHUNKED_COLUMNS if row.scheduled is None else TOKEN_BUDGET_COLUMNS):
                ids: Any = getattr(row, name)
                for j, named in enumerate(ids if isinstance(ids, tuple) else ()):
                    request = named[0] if isinstance(named, tuple) else named
                    if request >= requests:
                        raise no_such_request(request, requests, "expect", "steps", i, column, j)

    @model_validator(mode="after")
    def _policy_has_a_use(self) -> "StepsExpectation":
        if self.policy is not None and self.output != "reference":
            what = "a policy says how to compare with the reference, and output is none"
            raise MisfitError(what, "policy", hint="say `output: reference`, or leave it out")
        return self


Group = Annotated[Ids, Field(min_length=2)]


class OutputExpectation(Model):
    """What the tokens of a case are held to.

    ``output: reference``: every sequence equals Hugging Face on CPU, by ``policy``. ``output: alone``: every request
    gets the tokens that it gets on the same engine when nobody else is there. ``same`` lists groups of requests, by
    position, that must get the same tokens.
    """

    output: Literal["reference", "alone"]
    policy: PolicyChoice | None = None
    same: Annotated[tuple[Group, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _policy_has_a_use(self) -> "OutputExpectation":
        if self.policy is not None and self.output != "reference":
            what = "a policy says how to compare with the reference, and output is alone"
            raise MisfitError(what, "policy", hint="say `output: reference`, or leave it out")
        return self

    def check_same(self, requests: Sequence[object]) -> None:
        """Raise MisfitError where ``same`` names a request that is not there."""
        for i, group in enumerate(self.same):
            for j, request in enumerate(group):
                if request >= len(requests):
                    raise no_such_request(request, len(requests), "expect", "same", i, j)


class EndExpectation(Model):
    """How the engine must be left: ``idle`` is nothing waiting, running or held.

    ``limits`` are those it must say it holds itself to, as far as it can say.
    """

    engine: Literal["idle"] = "idle"
    limits: Limits = Limits()
