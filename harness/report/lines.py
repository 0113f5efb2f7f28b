"""Pydantic models of the lines of a results file. They find mistakes in files that were edited by hand or damaged.

Only the fields that reports and comparisons read are checked. Other fields are allowed, so that files of newer versions
of this program with the same format can be read.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from harness.report.outcomes import Record
from harness.utils.text import plural
from harness.utils.validation import must_be

Outcome = Literal["passed", "failed", "error", "flaky", "xpassed", "xfailed", "skipped"]
"""The outcomes of harness.report.outcomes.SYMBOLS."""
Count = Annotated[int, Field(ge=0, le=10**9)]
Step = Annotated[int, Field(ge=0, le=10**5)]
Size = Annotated[int, Field(ge=0, le=10**7)]
Cell = Annotated[int, Field(ge=-(10**9), le=10**9)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Instant = Annotated[float, Field(ge=0, le=2.5e11, allow_inf_nan=False)]
"""Seconds since 1970, up to the year 9892. Python's ``datetime`` ends with the year 9999."""
Logprob = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)] | None
Pair = Annotated[list[Cell], Field(min_length=2, max_length=2)]


Table = Annotated[tuple[Step, Cell, list[Cell]], Strict(False)]
"""(step, request, block ids): the request has this block table from the step on."""


class Line(BaseModel):
    """The base class of all models of this module. Types are strict, and unknown fields are allowed."""

    model_config = ConfigDict(strict=True, extra="allow")


class Row(Line):
    """A row of a step table in a results file: the JSON form of ``harness.types.StepRow``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: Step
    tkv: Cell | None = None
    waiting: list[Cell]
    running: list[Cell]
    outputs: list[Cell]
    finished: list[Cell]
    reserved: Cell | None = None
    used: Cell | None = None
    paused: list[Cell] | None = None
    hits: list[Pair] | None = None
    kind: str = ""
    scheduled: list[Pair] | None = None
    preempted: list[Cell] | None = None


class Data(Line):
    """The details of one check of a test: observed and expected steps, the answer and its reference.

    Fields that the check does not set have their defaults.
    """

    steps: list[Row] = []
    expected: list[Row] = []
    differing: dict[str, list[str]] = {}
    sizes: list[Annotated[list[Size], Field(min_length=3, max_length=3)]] = []
    step_seconds: list[Seconds] = []
    tables: list[Table] = []
    options: dict[str, bool | int | str] = {}
    text: str = ""
    reference_text: str = ""
    token_ids: list[Cell] = []
    reference_token_ids: list[Cell] = []
    logprobs: list[Logprob] | None = None
    reference_logprobs: list[Logprob] | None = None


class VerdictLine(Line):
    """One check of a test (harness.types.Verdict)."""

    passed: bool
    headline: str
    details: list[str] = []
    rule: str = ""
    data: Data = Data()


class KnownFailure(Line):
    """The known failure of a test: the entry that applies to the test in the list of known failures."""

    case: str = ""
    reason: str = ""


class ResultLine(Line):
    """The result of a test."""

    test: str
    outcome: Outcome
    seconds: Seconds = 0.0
    start: Instant = 0.0
    text: str = ""
    sections: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    verdicts: list[VerdictLine] = []
    kind: str = ""
    suite: str = ""
    case: str = ""
    about: str = ""
    requirements: list[str] = []
    described: str = ""
    model: str = ""
    backend: str = ""
    engine: str = ""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=10**6)] = 1
    markers: list[str] = []
    configuration: str = ""
    place: str = ""
    source: str = ""
    source_line: Annotated[int, Field(ge=1, le=10**9)] = 1
    suite_about: str = ""
    known_failure: KnownFailure = KnownFailure()
    cards: list[str] | None = None


class RunningLine(Line):
    """The last line of a run that is not finished or was killed: the tests that were running."""

    running: list[str]


class ShardLine(Line):
    """Which part of the tests a run with ``--cb-shard`` has: the part's number, from 1, and the number of parts."""

    part: Annotated[int, Field(ge=1, le=10**6)]
    of: Annotated[int, Field(ge=1, le=10**6)]


class HeaderLine(Line):
    """The first line of a results file.

    ``plan`` has a mapping from suite files to names of tests for each part of the run (``--cb-shard``). It is None if
    the run ended before the tests were collected.
    """

    engine: str = ""
    models: list[str] = []
    digests: dict[str, str] = {}
    cards: list[str] = []
    simulated: bool = False
    command: str = ""
    python: str = ""
    revision: str | None = None
    options: dict[str, str] = {}
    shard: ShardLine | None = None
    plan: list[dict[str, list[str]]] | None = None
    suites: dict[str, str] = {}
    killed: dict[str, Count] = {}
    began: Instant = 0.0

    @model_validator(mode="after")
    def _fits(self) -> "HeaderLine":
        parts = self.shard.of if self.shard else 1
        if self.shard and self.shard.part > parts:
            raise ValueError(f"`shard.part` must be from 1 to `shard.of` ({parts}), but is {self.shard.part}")
        if self.plan is not None and len(self.plan) != parts:
            of = f"{plural(parts, 'item')} ({'`shard.of`' if self.shard else 'a run without `shard`'})"
            raise ValueError(f"`plan` must have one item for each part of the run, so {of}, but has {len(self.plan)}")
        return self


class FooterLine(Line):
    """The last line of the results file of a run that was not killed.

    ``stopped`` says why the run ended before its last test, "" if it ran all tests. ``running`` are the tests that were
    running when the run was interrupted.
    """

    exitstatus: Annotated[int, Field(ge=0, le=255)] = 0
    stopped: str = ""
    running: list[str] = []
    seconds: Seconds = 0.0
    digests: dict[str, str] = {}
    leases: dict[str, Count] = {}
    counts: dict[str, Count] = {}
    backends: list[str] = []
    compiled: list[str] = []
    spent: dict[str, Seconds] = {}
    requirements: dict[str, dict[str, str]] = {}


def problem_of(line: Record, form: type[Line]) -> str:
    """Return a sentence that says what is wrong with a line of a results file, "" if nothing is wrong.

    ``form`` is the model that the line must fit.
    """
    try:
        form.model_validate(line)
    except ValidationError as error:
        return _sentence(error.errors(include_url=False)[0])
    return ""


def _sentence(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    what = must_be(error, "an object")
    if error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    elif error["type"] == "float_type" and type(error["input"]) is int:  # It is too large for a float.
        what = "the number has too many digits"
    return ": ".join(filter(None, [where, f"{what[:1].lower()}{what[1:]}"]))
