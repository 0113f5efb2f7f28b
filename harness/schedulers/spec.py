"""What the harness must know of a scheduler, as one value. A scheduler is a folder beside this file with a ``SPEC``.

Nothing outside ``schedulers/`` asks which scheduler it is; it looks the specification up by name and uses it.
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
"""Options of a scheduler that an engine is started with; None where it has none."""
Specs = Sequence[RequestSpec]
Timings = Sequence[Request]


class Workload(Protocol):
    """Random requests under limits that say all four numbers, with what the scheduler's rules say of them."""

    scheduler: ClassVar[str]
    limits: SchedulingLimits

    @property
    def options(self) -> Options: ...
    @property
    def requests(self) -> Sequence[Any]:
        """Each has prompt_length, max_tokens, join_step, abort_step and stops_after."""

    @property
    def case_id(self) -> str:
        """A name made from the content, fit for a case."""

    def setup(self, model: str) -> EngineSetup: ...
    def as_requests(self) -> tuple[Request, ...]: ...
    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]: ...
    def expected(self) -> Sequence[StepRow]: ...
    def explain(self, step: int) -> str: ...


class Bars(Protocol):
    """Follows a run row by row and says what each sequence holds, for time-lines."""

    def after(self, row: StepRow, count: int) -> Stretch:
        """The stretch of ``count`` steps that begins with ``row``."""


@dataclass(frozen=True)
class SearchTools:
    """Random workloads, by ``strategy(on_a_model, early_stops)``; simpler ones; what a shrunk one still takes."""

    strategy: Callable[[bool, bool], "SearchStrategy[Any]"]
    smaller: Callable[[Any], Iterator[Any]]
    takes: Callable[[Any], tuple[str, ...]]


def _no_events(*_: Any) -> Iterable[Event]:
    return ()


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler: its table, its rules as sentences, its model, its invariants, its pictures, its search.

    ``format`` is how it stands in files. ``reads_tokens``: the schedule depends on the tokens of prompts and not only
    on how many there are, so those of a model are needed in simulation too.

    ``causes`` are its columns from cause to effect: of those that are wrong in one step, the first names the rule.

    ``rule_for(kind, column)`` is the rule behind a cell, ``rule_for_kinds(expected, seen)`` the one behind a step of
    the wrong kind. ``kind_of_row(row, before, got_tokens)`` is the kind of step that a row describes. ``impossible``
    says why no engine can finish a workload, ``explain`` what the rules say of a step; None where they can't say.
    ``requirements_of(verdict, broken_off=…)`` are ids of suites/requirements.yaml.

    ``bars(sizes, options, rows)`` follows a run for time-lines, with its options as results have them; ``drawing`` says
    how they look. ``search_tools`` imports hypothesis, so it is a function; None where no rules say which step comes
    next, and there is nothing to search with. ``rule_events`` are the events of a run that only its rules can tell
    (``harness/schedulers/events.py`` has the others).
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
        """The name that suites and engines know it by."""
        return self.format.name
