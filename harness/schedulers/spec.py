"""The interface of a scheduler, as one value. Each folder next to this file has a ``SPEC``.

Code outside ``schedulers/`` has no branches on the scheduler; it looks up the specification by name.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from harness.schedulers.bars import Size, Stretch
from harness.schedulers.drawing import Drawing
from harness.schedulers.events import Event
from harness.suites.prompts import Vocabulary
from harness.suites.schema import Request, SchedulerFormat
from harness.types import EngineSetup, RequestSpec, Run, SchedulerOptions, SchedulingLimits, StepRow, Verdict

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Options = SchedulerOptions | None
"""Options with which an engine's scheduler is started, None if it has none."""
Specs = Sequence[RequestSpec]
Timings = Sequence[Request]


class Workload(Protocol):
    """Random requests with all four limits given, and the steps that the scheduler's rules predict for them."""

    scheduler: ClassVar[str]

    @property
    def limits(self) -> SchedulingLimits: ...
    @property
    def options(self) -> Options: ...
    @property
    def requests(self) -> Sequence[Any]:
        """Return the requests. Each has prompt_length, max_tokens, join_step, abort_step and stops_after."""

    @property
    def case_id(self) -> str:
        """Return a case id derived from the content."""

    def setup(self, model: str) -> EngineSetup: ...
    def as_requests(self) -> tuple[Request, ...]: ...
    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]: ...
    def expected(self) -> Sequence[StepRow]: ...
    def explain(self, step: int) -> str: ...


class Bars(Protocol):
    """Follows a run row by row and returns the memory of each sequence, for time-lines."""

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch of ``count`` steps that begins with ``row``."""


@dataclass(frozen=True)
class SearchTools:
    """Tools for random workloads.

    ``strategy(on_a_model, early_stops)`` draws them, ``smaller(workload)`` yields simpler ones, ``takes(workload)``
    returns the names of the features that a workload needs.
    """

    strategy: Callable[[bool, bool], "SearchStrategy[Any]"]
    smaller: Callable[[Any], Iterator[Any]]
    takes: Callable[[Any], tuple[str, ...]]


def _no_events(*_: Any) -> Iterable[Event]:
    return ()


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler: step table, rules as sentences, model, invariants, time-line drawing and search.

    ``format`` is its format in files. ``reads_tokens``: the schedule depends on the tokens of prompts, not only on
    their number, so a tokenizer is needed in simulation, too.

    ``causes`` are its columns from cause to effect: the first wrong column of a step determines the reported rule.

    ``rule_for(kind, column)`` returns the rule behind a cell, ``rule_for_kinds(expected, seen)`` the rule behind a step
    of the wrong kind. ``kind_of_row(row, before, got_tokens)`` returns the kind of step that a row describes.
    ``impossible`` returns why no engine can finish a workload, ``explain`` what a step does by the rules; both return
    None if the rules do not determine it. ``requirements_of(verdict, broken_off=…)`` returns ids of
    suites/requirements.yaml.

    ``bars(sizes, options, rows)`` follows a run for time-lines, with the options in the form of results; ``drawing``
    describes how they are drawn. ``search_tools`` is a function because it imports hypothesis; None if the scheduler
    has no model of its rules. ``rule_events`` returns the events of a run that need the scheduler's rules; the others
    are in ``harness/schedulers/events.py``.
    """

    format: SchedulerFormat
    reads_tokens: bool
    rule_for: Callable[[str, str], str]
    rule_for_kinds: Callable[[str, str], str]
    kind_of_row: Callable[[StepRow, StepRow | None, Collection[int]], str]
    check_invariants: Callable[[Run, Specs, Timings, SchedulingLimits, Options], Verdict]
    impossible: Callable[[SchedulingLimits, Options, Specs, Timings, Run], str | None]
    explain: Callable[[SchedulingLimits, Options, Specs, Timings, Run, int], str | None]
    requirements_of: Callable[..., tuple[str, ...]]
    bars: Callable[[tuple[Size, ...], Mapping[str, Any], Sequence[StepRow]], Bars]
    drawing: Drawing
    causes: tuple[str, ...]
    search_tools: Callable[[], SearchTools] | None
    rule_events: Callable[[SchedulingLimits, Options, Specs, Timings, Run], Iterable[Event]] = _no_events

    @property
    def name(self) -> str:
        """Return the name that suites and engines use."""
        return self.format.name
