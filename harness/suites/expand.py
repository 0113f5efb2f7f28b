"""Expand a suite to tests: each case becomes one test for every combination of the suite's parameter values.

The number of tests is limited by the suite's ``max_tests``, because a few parameters can lead to very many tests.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import PurePath

from harness.suites.schema import FORMATS, MODELS_OF_THE_RUN, AnySuite, Case, Limits, Scheduler
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER, EngineSetup, SchedulerOptions, blocks_for, ceil_div

SMALLEST_CONTEXT = 512
SMALLEST_BATCH = 4
SCHEDULER_MARKERS = frozenset(each.marker for each in FORMATS.values())


class TooManyTestsError(ValueError):
    """Raised if a suite expands to more tests than ``max_tests`` allows."""


@dataclass(frozen=True)
class Configuration:
    """One combination of values of a suite's parameters.

    ``max_num_seqs`` and ``policy`` are None if they are not parameters of the suite. The value of the case then
    applies. ``model_in_id`` is the name of the model in test ids. If it is "", test ids have the last part of the
    model's path.
    """

    model: str
    backend: str
    tensor_parallel_size: int = 1
    max_num_seqs: int | None = None
    scheduler: Scheduler = DEFAULT_SCHEDULER
    entry_point: str = "in-process"
    policy: str | None = None
    model_in_id: str = ""

    @property
    def label(self) -> str:
        """Return the part of a test id that is in brackets, such as ``tiny-granite-eager-tp2``.

        Model and backend are always included, other parameters only if their values are not the defaults.
        """
        parts = [self.model_in_id or model_label(self.model), self.backend]
        if self.tensor_parallel_size > 1:
            parts.append(f"tp{self.tensor_parallel_size}")
        if self.max_num_seqs is not None:
            parts.append(f"seqs{self.max_num_seqs}")
        if self.scheduler != DEFAULT_SCHEDULER:
            parts.append(self.scheduler)
        if self.entry_point != "in-process":
            parts.append(self.entry_point)
        if self.policy is not None:
            parts.append(self.policy)
        return "-".join(parts)

    @property
    def markers(self) -> tuple[str, ...]:
        """Return the markers that follow from the parameter values, for example from the backend and the scheduler."""
        http = ("http",) if self.entry_point == "http" else ()
        multi = ("multi",) if self.tensor_parallel_size > 1 else ()
        return ("spyre" if self.backend == "sendnn" else "cpu", FORMATS[self.scheduler].marker, *http, *multi)


@dataclass(frozen=True)
class Expanded:
    """One test, which is one case in one configuration. ``index`` is the position of the case in its suite."""

    index: int
    case: Case
    configuration: Configuration

    @property
    def name(self) -> str:
        return f"{self.case.id}[{self.configuration.label}]"

    @property
    def limits(self) -> Limits:
        """Return the limits of the case. If ``max_num_seqs`` is a parameter of the suite, its value is used."""
        seqs = self.configuration.max_num_seqs
        return self.case.limits if seqs is None else self.case.limits.model_copy(update={"max_num_seqs": seqs})

    @cached_property
    def setup(self) -> EngineSetup:
        """Return the setup of the engine that runs this test.

        The limits of the case are rounded up to common sizes, so that many cases can share an engine.
        """
        limits = self.limits
        context = max(SMALLEST_CONTEXT, round_up(limits.max_model_len or 1, BLOCK_SIZE))
        batch = max(SMALLEST_BATCH, power_of_two(limits.max_num_seqs or 1))
        setup = EngineSetup(
            self.configuration.model,
            self.configuration.backend,
            self.configuration.tensor_parallel_size,
            context,
            batch,
            None,
            self.configuration.scheduler,
            self.options,
        )
        full = batch * blocks_for(context, setup.block_size)
        if limits.available_blocks and limits.available_blocks > full:
            return replace(setup, num_blocks=round_up(limits.available_blocks + 1, batch))
        return setup

    @property
    def options(self) -> SchedulerOptions | None:
        """Return the options of the test's scheduler, None if this scheduler has no options."""
        known = FORMATS[self.configuration.scheduler]
        return known.options_for(getattr(self.case, known.options_key)) if known.options_key else None

    def markers(self, suite: AnySuite) -> tuple[str, ...]:
        """Return all markers of the test, without duplicates. ``suite`` is the suite of the test's case.

        Markers of other schedulers than the scheduler of the test are left out, even if the suite or the case has them.
        """
        caching = ("prefix_caching",) if getattr(self.options, "enable_prefix_caching", False) else ()
        given = (suite.kind, *self.configuration.markers, *caching, *suite.markers, *self.case.markers)
        others = SCHEDULER_MARKERS - {FORMATS[self.configuration.scheduler].marker}
        return tuple(marker for marker in dict.fromkeys(given) if marker not in others)


def expand(
    suite: AnySuite, models: Sequence[str], max_tests: int | None = None, scheduler: Scheduler = DEFAULT_SCHEDULER
) -> list[Expanded]:
    """Return all tests of a suite, sorted by configuration, so that the tests of an engine run one after the other.

    ``models`` replace ``$models`` in the suite's parameters. ``max_tests`` overrides the suite's ``max_tests``. Raises
    TooManyTestsError if there are more tests than this maximum.

    ``scheduler`` is the scheduler of the engine under test. It is used for output and behaviour suites that do not name
    a scheduler, because outputs and answers are the same with every scheduler. Events are not the same: unless
    ``scheduler`` is the default scheduler, the keys ``happens`` and ``never`` are removed from the cases of these
    suites. Scheduler-step suites that do not name a scheduler always use the default scheduler.
    """
    parameters = suite.parameters
    says = "scheduler" in parameters.model_fields_set or suite.kind == "scheduler_steps"
    named = [m for model in parameters.model for m in (models if model == MODELS_OF_THE_RUN else (model,))]
    labels = _labels_apart(dict.fromkeys(named))
    configurations = [
        Configuration(*values, labels[values[0]])
        for values in product(
            labels,
            parameters.backend,
            parameters.tensor_parallel_size,
            parameters.max_num_seqs or (None,),
            parameters.scheduler if says else (scheduler,),
            parameters.entry_point,
            parameters.policy or (None,),
        )
    ]
    count, bound = len(configurations) * len(suite.cases), max_tests or suite.max_tests
    if count > bound:
        raise TooManyTestsError(
            f"the suite has {len(suite.cases)} cases x {len(configurations)} configurations = {count} tests, "
            f"more than max_tests {bound}"
        )
    cases = suite.cases if says or scheduler == DEFAULT_SCHEDULER else [_without_events(case) for case in suite.cases]
    return [Expanded(i, case, c) for c in configurations for i, case in enumerate(cases)]


def _without_events(case: Case) -> Case:
    """Return the case without ``happens`` and ``never``, because these events are for another scheduler."""
    events = {"happens", "never"} & set(type(case).model_fields)
    return case.model_copy(update=dict.fromkeys(events, ()))


def model_label(model: str) -> str:
    """Return the name of a model for test ids: the last part of its path or hub id.

    Characters other than letters, digits, ``.``, ``_`` and ``-`` are replaced with ``-``.
    """
    return _simple(PurePath(model).name) or "model"


def _labels_apart(models: Iterable[str]) -> dict[str, str]:
    """Return the label of each model for test ids. If two models would get the same label, use their whole names."""
    labels = {model: model_label(model) for model in models}
    count = Counter(labels.values())
    return {model: _simple(model) if count[label] > 1 else label for model, label in labels.items()}


def _simple(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def round_up(value: int, multiple: int) -> int:
    """Return ``value`` rounded up to a multiple of ``multiple``."""
    return ceil_div(value, multiple) * multiple


def power_of_two(value: int) -> int:
    """Return the smallest power of two that is at least ``value``."""
    return 1 << (value - 1).bit_length()
