"""The types of the input and the result of ``harness.cases.run.run_test``: ``Test`` and ``Verdicts``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cases.blessing import Blessing
from harness.references import Oracle
from harness.schedulers import scheduler_named
from harness.schedulers.spec import SchedulerSpec
from harness.suites.expand import Expanded
from harness.suites.schema import Policy
from harness.types import Verdict

Verdicts = tuple[Verdict, ...]


class CaseError(ValueError):
    """A case can't be run because of a mistake in the case. The message is for the author of the case.

    ``at`` is the path of the wrong value in the case, () for the whole case.
    """

    def __init__(self, what: str, *at: str | int) -> None:
        super().__init__(what)
        self.at = at


class NoEngineError(CaseError):
    """A case was not run: its engine or server did not start, or its server is not in the state of a new server."""


@dataclass(frozen=True)
class Test:
    """One case in one configuration, with what is needed to run and check it.

    ``expanded`` is the case. ``capabilities`` are those of the driver. ``bless_command`` is the command that accepts
    the engine's steps as the expected steps. ``blessing`` is None except with ``--cb-bless``. ``oracle`` provides
    reference outputs. ``policy`` is the policy for comparing outputs if neither the case nor its suite names one.
    """

    __test__ = False  # pytest must not collect this class.

    suite_path: Path
    suite_name: str
    expanded: Expanded
    capabilities: frozenset[str]
    bless_command: str
    blessing: Blessing | None = None
    oracle: Oracle = field(default_factory=Oracle)
    policy: Policy | None = None

    @property
    def scheduler(self) -> SchedulerSpec:
        """Return the scheduler that the test's configuration names."""
        return scheduler_named(self.expanded.configuration.scheduler)


def as_data(verdicts: Sequence[Verdict]) -> list[Mapping[str, Any]]:
    """Convert verdicts to dicts of JSON types, for reports."""
    return [
        {
            "passed": v.passed,
            "headline": v.headline,
            "details": list(v.details),
            "rule": v.rule,
            "data": dict(v.data),
        }
        for v in verdicts
    ]
