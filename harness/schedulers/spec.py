"""``SchedulerSpec``: all that the harness must know about a scheduler.

Each folder next to this file has the code for one scheduler, and defines the scheduler's ``SPEC``. Code outside
``schedulers/`` does not distinguish schedulers: it looks up a ``SchedulerSpec`` by the scheduler's name.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from harness.schedulers.bars import Size, Stretch
from harness.schedulers.drawing import Drawing
from harness.schedulers.errors import ImpossibleWorkload
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
    """A random workload: requests, limits (none of which is None), and the step table that the rules predict."""

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
        """Return the id for a case with this workload: ``found-`` and a hash of requests, limits and options."""

    def setup(self, model: str) -> EngineSetup: ...
    def as_requests(self) -> tuple[Request, ...]: ...
    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]: ...
    def expected(self, generated: Tokens | None = None) -> Sequence[StepRow]:
        """Return the step table that the scheduler model predicts.

        ``generated`` are the tokens that an LLM generated for the requests, None if no LLM ran.
        """

    def explain(self, step: int, generated: Tokens | None = None) -> str:
        """Return a phrase about what the rules require at step ``step``.

        ``generated`` are the tokens that an LLM generated for the requests, None if no LLM ran.
        """


class Bars(Protocol):
    """Computes the bars of the time-line of a run: for each sequence, the blocks that it holds after a step.

    ``after`` is called with the rows of the step table, one after the other.
    """

    def after(self, row: StepRow, count: int) -> Stretch:
        """Return the stretch of the time-line that has ``count`` steps and begins with the step of ``row``.

        ``count`` is above 1 only if the following steps are decodes in which no request joins, ends or takes a block.
        """


@dataclass(frozen=True)
class SearchTools:
    """Functions that ``spyre-cb search`` needs for a scheduler.

    ``strategy(on_a_model, early_stops)`` returns the hypothesis strategy for workloads. ``on_a_model`` is whether the
    engine runs an LLM, and ``early_stops`` whether requests may end before ``max_tokens``. ``smaller(workload)`` yields
    simpler workloads, for shrinking. ``features(workload)`` returns names for what is not default in a workload, for
    example ``max_num_seqs`` or ``an abort``.
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
    - ``rule_for(kind, column)``: returns the rule that determines a column of the step table. ``kind`` is what the step
      did, such as ``prefill`` or ``decode``
    - ``rule_for_kinds(expected, seen)``: returns the rule that is broken if a step is of the kind ``seen``, but must be
      of the kind ``expected``
    - ``kind_of_row(row, before, got_tokens)``: returns the kind of the step that a row describes. ``before`` is the row
      before it, and ``got_tokens`` are the requests that got a token earlier
    - ``check_invariants``: checks a run, and returns a verdict
    - ``impossible``: returns an exception that says why no engine can finish the requests, None if the rules give no
      reason
    - ``explain``: returns what the rules require at a step, None if they can't be applied
    - ``requirements_of(verdict, unfinished=…)``: returns the ids of the requirements that a failed run violates.
      ``unfinished`` is whether the engine failed, or did not finish all requests
    - ``bars(sizes, options, rows)``: returns an object that computes the bars of time-lines
    - ``drawing``: how time-lines are drawn
    - ``causes``: the columns of the step table from cause to effect. If several columns of a step are wrong, the rule
      of the first of these columns is reported
    - ``search_tools``: a function that imports hypothesis and returns the functions that ``spyre-cb search`` needs.
      None if the scheduler has no scheduler model (an independent implementation of its rules)
    - ``rule_events``: returns the events of a run that are not visible in its step table (``events.py`` finds the
      visible ones)
    - ``invariants``: the texts of the invariants. Each begins with the page and the heading of a rule, as in verdicts
    """

    format: SchedulerFormat
    reads_tokens: bool
    rule_for: Callable[[str, str], str]
    rule_for_kinds: Callable[[str, str], str]
    kind_of_row: Callable[[StepRow, StepRow | None, Collection[int]], str]
    check_invariants: Callable[[Run, Specs, Timings, SchedulingLimits, Options], Verdict]
    impossible: Callable[[SchedulingLimits, Options, Specs, Timings, Run], ImpossibleWorkload | None]
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
