"""The cases of a suite with their golden tables, for comparisons with the scheduler model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cases.steps import expected_rows
from harness.cases.test import Test
from harness.cases.workload import specs_of
from harness.drivers.reference import SimulationDriver
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from harness.suites.schema import StepsCase
from harness.types import RequestSpec, SchedulerOptions, SchedulingLimits, StepRow


class GoldenCase(NamedTuple):
    """A case, the arguments with which the scheduler model predicts its steps, and its golden table.

    ``limits`` are the effective limits. ``rows`` may leave out plain decodes (see ``StepRow``).
    """

    case: StepsCase
    limits: SchedulingLimits
    options: SchedulerOptions | None
    specs: list[RequestSpec]
    rows: Sequence[StepRow]


def golden_cases(path: Path) -> Iterator[GoldenCase]:
    """Yield the cases of a suite for the eager backend.

    The limits are the effective ones of an engine without a model.
    """
    suite = load_suite(path).suite
    for expanded in expand(suite, ["tiny-granite"]):
        case = expanded.case
        assert isinstance(case, StepsCase)
        if expanded.configuration.backend != "eager":
            continue
        test = Test(path, suite.suite, expanded, SimulationDriver.capabilities, "")
        session = SimulationDriver().open(expanded.setup)
        limits = session.reset(SchedulingLimits(**expanded.limits.model_dump()))
        yield GoldenCase(case, limits, expanded.options, specs_of(test, case), expected_rows(test, case))
