"""``SchedulerSpec``: all that the harness must know about a scheduler. Each folder next to this file has a ``SPEC``.

Code outside ``schedulers/`` does not distinguish schedulers. It looks up the specification by the scheduler's name.
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
"""The options of a scheduler, None if the scheduler has no options."""
Specs = Sequence[RequestSpec]
Tokens = Sequence[Sequence[int]]
"""The token ids that each request generated, in the order of the requests."""
Timings = Sequence[Request]
"""The requests as a case lists them, with the steps at which they join and are aborted."""


class Workload(Protocol):
    """A random workload: requests, limits, none of which is None, and the step table that the rules predict."""

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
        """Return a case id that is derived from the content of the workload."""

    def setup(self, model: str) -> EngineSetup: ...
    def as_requests(self) -> tuple[Request, ...]: ...
    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]: ...
    def expected(self, generated: Tokens | None = None) -> Sequence[StepRow]:
        """Return the predicted step table. ``generated`` are the tokens that an LLM generated, None if none ran."""

    def explain(self, step: int, generated: Tokens | None = None) -> str:
        """Return a phrase about what the rules require at step ``step``."""


class Bars(Protocol):
    """Computes the bars of time-lines for a run, row by row."""

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch that consists of ``row`` and of the steps after it, ``count`` steps in total."""


@dataclass(frozen=True)
class SearchTools:
    """Functions that the search needs for a scheduler.

    ``strategy(on_a_model, early_stops)`` returns the hypothesis strategy for workloads. ``smaller(workload)`` yields
    simpler workloads. ``features(workload)`` returns the names of limits, options and features of requests that
    distinguish a workload from a plain one, for example ``max_num_seqs`` or ``an abort``.
    """

    strategy: Callable[[bool, bool], "SearchStrategy[Any]"]
    smaller: Callable[[Any], Iterator[Any]]
    features: Callable[[Any], tuple[str, ...]]


def _no_events(*_: Any) -> Iterable[Event]:
    return ()


@dataclass(frozen=True)
class SchedulerSpec:
    """All that the harness must know about a scheduler.

    - ``format``: its marker, columns and options (``harness/suites/schema/schedulers.py``)
    - ``reads_tokens``: whether its steps depend on the token ids of prompts, and not only on the number of tokens
    - ``rule_for(kind, column)``: returns the rule that determines a column of the step table in a step of that kind
    - ``rule_for_kinds(expected, seen)``: returns the rule that a step of the kind ``seen`` violates
    - ``kind_of_row(row, before, got_tokens)``: returns the kind of the step that a row describes
    - ``check_invariants``: checks a run, and returns a verdict
    - ``impossible``: returns why no engine can finish the requests, None if the rules give no reason
    - ``explain``: returns what the rules require at a step, None if they can't be applied
    - ``requirements_of(verdict, unfinished=…)``: returns the ids of the requirements that a failed run violates.
      ``unfinished`` is whether the engine failed, or did not finish all requests
    - ``bars(sizes, options, rows)``: returns an object that computes the bars of time-lines
    - ``drawing``: how time-lines are drawn
    - ``causes``: the columns of the step table from cause to effect. If several columns of a step are wrong, the rule
      of the first one is reported
    - ``search_tools``: returns the functions that the search needs. This import of hypothesis is delayed until the
      call. None if the scheduler has no model of its rules
    - ``rule_events``: returns the events of a run that are not visible in its step table (``events.py`` has the others)
    - ``invariants``: the sentences about what ``check_invariants`` checks. Each begins with the page and the heading of
      the rule, as in verdicts
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
    invariants: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the scheduler in suites and engine setups."""
        return self.format.name
