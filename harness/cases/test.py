"""The input of a runner, and its result."""

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
    """A case that can't be run. The message is for the author of the case."""


@dataclass(frozen=True)
class Test:
    """The input of a test.

    With a ``blessing``, golden tables and reference outputs are written. ``policy`` is used for outputs if neither the
    case nor its suite has one.
    """

    __test__ = False

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
        """Return the scheduler of the test."""
        return scheduler_named(self.expanded.configuration.scheduler)


def as_data(verdicts: Sequence[Verdict]) -> list[Mapping[str, Any]]:
    """Return the verdicts as builtins, for reports."""
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
