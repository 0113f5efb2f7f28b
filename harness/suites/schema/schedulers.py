"""How suites, results files and traces differ by scheduler: pytest marker, columns of step tables, and options.

FORMATS has these properties of each scheduler, by the scheduler's name. ``format_of_row`` finds the properties for a
row of a step table, by the columns of the row. The rules of each scheduler are in a folder of ``harness/schedulers/``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, WithJsonSchema

from harness.suites.schema.base import MOST, Ids, MisfitError, Number, StepNumber
from harness.suites.schema.happens import EventName
from harness.suites.schema.requests import Chunking, Options, TokenBudget
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER, ChunkingSetup, SchedulerOptions, StepRow, TokenBudgetSetup

Scheduler = Literal["continuous", "static", "chunked", "token_budget"]


_ID_LIST: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}}


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(number) is int and 0 <= number <= MOST for number in value)


def _requests(column: str) -> Any:
    """Return the pydantic type of the cells of ``column``, which are lists of request numbers."""

    def check(value: Any) -> tuple[int, ...]:
        if not _are_numbers(value):
            raise MisfitError(f"{column} must be a list of request numbers", hint="such as `[2, 0]`")
        return tuple(value)

    return Annotated[tuple[int, ...], PlainValidator(check), WithJsonSchema(_ID_LIST)]


def _pairs(column: str, unit: str) -> Any:
    """Return the pydantic type of the cells of ``column``, which are lists of pairs (request, number of ``unit``)."""

    def check(value: Any) -> tuple[tuple[int, int], ...]:
        if not isinstance(value, list | tuple) or not all(_are_numbers(pair) and len(pair) == 2 for pair in value):
            raise MisfitError(f"{column} must be a list of pairs [request, {unit}]", hint="such as `[[1, 2]]`")
        return tuple((request, number) for request, number in value)

    schema = {"type": "array", "items": {**_ID_LIST, "minItems": 2, "maxItems": 2}}
    return Annotated[tuple[tuple[int, int], ...], PlainValidator(check), WithJsonSchema(schema)]


CELLS: Mapping[str, Any] = {
    "step": StepNumber,
    "tkv": Number,
    "waiting": Ids,
    "running": Ids,
    "outputs": Ids,
    "finished": Ids,
    "reserved": Number,
    "used": Number,
    "paused": _requests("paused"),
    "preempted": _requests("preempted"),
    "hits": _pairs("hits", "blocks"),
    "scheduled": _pairs("scheduled", "tokens"),
}
"""The pydantic type of the cells of each column of a step table, by the column's name in ``StepRow``."""

COLUMNS = ("step", "tkv", "waiting", "running", "outputs", "finished", "reserved", "used")
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


def _one_more(row: StepRow, steps: int) -> StepRow:
    """Return the row after ``steps`` further decodes in which no request joins, ends or takes a block.

    In each of these steps, every running request gets one token and tkv grows by 1. This is for schedulers with tkv.
    """
    return row._replace(step=row.step + steps, tkv=row.tkv_or_0 + steps, outputs=row.running, finished=())


def _one_each(row: StepRow, steps: int) -> StepRow:
    """Return the row after ``steps`` further decodes in which no request joins, ends or takes a block.

    In each of these steps, every running request computes one token and gets the next. This is for the token-budget
    scheduler.
    """
    ones = tuple((request, 1) for request in row.running)
    gone = row._replace(scheduled=ones, preempted=(), hits=())
    return gone._replace(step=row.step + steps, outputs=row.running, finished=())


def _runs(row: StepRow, request: int) -> bool:
    """Return whether the request ran in the step: it got a token, or is in its prefill."""
    return request in row.outputs or request in row.running


def _is_scheduled(row: StepRow, request: int) -> bool:
    return any(scheduled == request for scheduled, _ in row.scheduled or ())


def _is_paused(row: StepRow, request: int) -> bool:
    return request in (row.paused or ())


def _is_preempted(row: StepRow, request: int) -> bool:  # noqa: ARG001
    """Return True. This is ``SchedulerFormat.suspends`` of the token-budget scheduler.

    It is called only for steps between two tokens of a request in which the request got no token. With the token-budget
    scheduler, the request counts as suspended in every such step.
    """
    return True


@dataclass(frozen=True)
class SchedulerFormat:
    """What suites, results files and traces have for one scheduler: pytest marker, columns of step tables, and options.

    ``marker`` is the pytest marker of the scheduler's tests. ``columns`` are the columns of its step tables.
    ``own_column`` is a column that no other scheduler has, so that rows of this scheduler can be recognised, None if
    there is no such column. ``options_key`` is the key of the scheduler's options in a case and in a trace, ``options``
    is the type of these options in suites, and ``setup`` the type that drivers get. ``limits_it_lacks`` maps the names
    of limits that the scheduler does not have to an error message. ``rounds_blocks`` is whether an engine with this
    scheduler rounds the number of blocks up to a multiple of ``max_num_seqs``. ``rounds_first_prompt`` is whether the
    scheduler rounds the prompt that starts a batch up to whole blocks. ``plain_decode(row, steps)`` returns the row
    after ``steps`` further decodes in which no request joins, ends or takes a block. ``events`` are those events that
    this scheduler can have and some other scheduler can't.

    ``computes(row, request)`` returns whether the step computes tokens of the request. ``suspends(row, request)`` is
    called for each step between two tokens of a request in which the request got no token. The result is True if the
    request was paused, or was preempted and is not yet computed again, and False if the step computed the prefill of
    another request.
    """

    name: Scheduler
    marker: str
    columns: tuple[str, ...]
    own_column: str | None = None
    options_key: str = ""
    options: type[Options] | None = None
    setup: type[ChunkingSetup] | type[TokenBudgetSetup] | None = None
    limits_it_lacks: Mapping[str, str] = field(default_factory=dict)
    rounds_blocks: bool = True
    rounds_first_prompt: bool = False
    plain_decode: Callable[[StepRow, int], StepRow] = _one_more
    computes: Callable[[StepRow, int], bool] = _runs
    suspends: Callable[[StepRow, int], bool] = _is_paused
    events: frozenset[EventName] = frozenset()

    def options_for(self, given: Options | None) -> SchedulerOptions | None:
        """Convert the options of a case to the type that drivers get. Return None if the scheduler has no options."""
        if self.options is None or self.setup is None:
            return None
        return self.setup(**(given or self.options()).model_dump())


_TKV_EVENTS: frozenset[EventName] = frozenset({"tkv_growth", "tkv_fall"})
_BATCH_TKV_EVENTS: frozenset[EventName] = frozenset({"fits_batch_tkv_exactly", "batch_tkv_over_by_one"})
_CONTINUOUS_EVENTS: frozenset[EventName] = frozenset(
    {
        *_TKV_EVENTS,
        *_BATCH_TKV_EVENTS,
        "wait_for_context",
        "wait_for_freed_blocks",
        "wait_for_batch_tkv",
        "remembered_refusal",
        "fits_context_exactly",
        "context_short_by_one",
    }
)
_CHUNKED_EVENTS: frozenset[EventName] = frozenset(
    {
        *_TKV_EVENTS,
        *_BATCH_TKV_EVENTS,
        "pause",
        "resume",
        "abort_of_paused",
        "several_chunks",
        "chunk_between_decodes",
        "wait_for_turn",
        "wait_for_prefill",
        "wait_for_paused",
        "hit",
        "hit_unused",
        "hit_on_generated_blocks",
        "hit_on_held_blocks",
        "hit_on_free_blocks",
        "hit_with_copies",
        "prefix_lost",
        "cached_block_taken",
        "found_block_taken",
    }
)
_TOKEN_BUDGET_EVENTS: frozenset[EventName] = frozenset(
    {"several_chunks", "hit", "abort_of_paused", "mixed_step", "preemption", "wait_for_budget"}
)

FORMATS: Mapping[str, SchedulerFormat] = {
    each.name: each
    for each in (
        SchedulerFormat("continuous", "cb", COLUMNS, rounds_first_prompt=True, events=_CONTINUOUS_EVENTS),
        SchedulerFormat("static", "sb", COLUMNS, rounds_first_prompt=True, events=_TKV_EVENTS),
        SchedulerFormat(
            "chunked",
            "chunked_prefill",
            CHUNKED_COLUMNS,
            "paused",
            "chunking",
            Chunking,
            ChunkingSetup,
            events=_CHUNKED_EVENTS,
        ),
        SchedulerFormat(
            "token_budget",
            "token_budget",
            TOKEN_BUDGET_COLUMNS,
            "scheduled",
            "token_budget",
            TokenBudget,
            TokenBudgetSetup,
            {"max_batch_tkv_limit": "the token-budget scheduler has no tkv and therefore no max_batch_tkv_limit"},
            rounds_blocks=False,
            plain_decode=_one_each,
            computes=_is_scheduled,
            suspends=_is_preempted,
            events=_TOKEN_BUDGET_EVENTS,
        ),
    )
}
"""The SchedulerFormat of each scheduler, by the scheduler's name."""

OPTION_KEYS: Mapping[str, SchedulerFormat] = {each.options_key: each for each in FORMATS.values() if each.options_key}


def schedulers_with(event: EventName) -> tuple[str, ...]:
    """Return the names of the schedulers that can have an event, sorted; () if every scheduler can have it."""
    return tuple(sorted(name for name, known in FORMATS.items() if event in known.events))


_KNOWN_BY = tuple((each.own_column, each) for each in FORMATS.values() if each.own_column)


def format_of_row(row: StepRow) -> SchedulerFormat:
    """Return the SchedulerFormat of the scheduler to which a row belongs. The columns of the row show the scheduler.

    If the row has only columns that every scheduler has, return the SchedulerFormat of the default scheduler.
    """
    for column, known in _KNOWN_BY:
        if getattr(row, column) is not None:
            return known
    return FORMATS[DEFAULT_SCHEDULER]


def columns_of_cells(cells: Sequence[Any]) -> tuple[str, ...]:
    """Return the columns to which the cells of a row belong.

    The columns follow from the number of cells, and from the type of the second cell, which is a number (``tkv``) or a
    list (``scheduled``). Raises MisfitError if no scheduler has rows with this number of cells.
    """
    second = "scheduled" if len(cells) > 1 and isinstance(cells[1], list | tuple) else "tkv"
    alike = [each.columns for each in FORMATS.values() if each.columns[1] == second]
    for columns in alike:
        if len(columns) == len(cells):
            return columns
    raise no_row(f"{len(cells)} values", min(alike, key=len))


def no_row(given: str, columns: tuple[str, ...] = COLUMNS) -> MisfitError:
    """Return the error for a value that is not a row with these columns. ``given`` describes the value."""
    what = f"a row must be a list of {len(columns)} values ({', '.join(columns)}), not {given}"
    return MisfitError(what, hint=example_of_row(columns))


def example_of_row(columns: Sequence[str]) -> str:
    """Return a hint with an example of a row with these columns, in the form ``such as `[1, 64, …]` ``."""
    return f"such as `[{', '.join(_EXAMPLE[column] for column in columns)}]`"


_EXAMPLE: Mapping[str, str] = dict.fromkeys(("step", "used"), "1") | {
    "tkv": "64",
    "waiting": "[]",
    "running": "[0]",
    "outputs": "[0]",
    "finished": "[]",
    "reserved": "2",
    "paused": "[]",
    "preempted": "[]",
    "hits": "[]",
    "scheduled": "[[0, 64]]",
}


def decodes_on(before: StepRow, after: StepRow) -> bool:
    """Return whether ``after`` is a decode that follows ``before``, in which no request joins, ends or takes a block.

    A request takes a block only if tkv passes a multiple of 64 or, with schedulers without tkv, if ``used`` changes.
    Comparing the rows is fast, because drivers reuse the tuples of a row in the next row until their content changes.
    """
    return (
        after.kind == before.kind == "decode"
        and not after.finished
        and after[2:] == before[2:]
        and after.outputs == after.running
        and (
            before.tkv is None  # The scheduler has no tkv.
            or (after.tkv == before.tkv + 1 and before.tkv % BLOCK_SIZE != 0)
        )
    )
