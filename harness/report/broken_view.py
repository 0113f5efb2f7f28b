"""Requirements that do not hold, for the top of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record
from harness.report.result_view import ResultView


@dataclass(frozen=True)
class BrokenRequirement:
    """A requirement that does not hold.

    ``must`` is its sentence, if known; ``worst`` is the test that shows the fault best.
    """

    name: str
    must: str
    failed: int
    ran: int
    worst: ResultView


@dataclass(frozen=True)
class Broken:
    """``named`` is a minimal set of requirements that explains all failures.

    ``others`` are others with the same failed tests.
    """

    named: tuple[BrokenRequirement, ...]
    others: tuple[BrokenRequirement, ...]


def broken_requirements(about: Record, views: Sequence[ResultView]) -> Broken:
    """Return the requirements that explain the failures.

    A fault in one rule also breaks tests of other rules. So a test has a larger weight for a requirement if it has few
    other requirements, and tests that are explained by one requirement do not count for others.
    """
    ran: dict[str, list[ResultView]] = {}
    for view in views:
        if view.status != "skipped":
            for name in view.requirements.split():
                ran.setdefault(name, []).append(view)
    left = {view.anchor: view for view in views if view.status in PROBLEMS and view.requirements}
    named = []
    while left:
        weights: dict[str, float] = {}
        for view in left.values():
            names = view.requirements.split()
            for name in names:
                weights[name] = weights.get(name, 0.0) + 1 / len(names)
        heaviest = max(weights, key=lambda name: weights[name])
        mine = [view for view in left.values() if heaviest in view.requirements.split()]
        named.append(_broken(heaviest, about, ran[heaviest], mine))
        left = {anchor: view for anchor, view in left.items() if view not in mine}
    explained = {each.name for each in named}
    others = [
        _broken(name, about, tests, bad)
        for name, tests in ran.items()
        if name not in explained and (bad := [view for view in tests if view.status in PROBLEMS])
    ]
    return Broken(tuple(named), tuple(others))


def _broken(name: str, about: Record, ran: Sequence[ResultView], shown: Sequence[ResultView]) -> BrokenRequirement:
    """Return the requirement with its best test: one with few requirements that failed first in its own check."""
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    worst = min(shown, key=lambda view: (len(view.requirements.split()), _failed_elsewhere(view), view.also_failed))
    failed = sum(view.status in PROBLEMS for view in ran)
    return BrokenRequirement(name, listed.get(name, {}).get("must", ""), failed, len(ran), worst)


def _failed_elsewhere(view: ResultView) -> bool:
    """Return whether a test of outputs failed first in a check of something else."""
    return view.kind == "output" and view.first_failure is not None and view.first_failure.output is None
