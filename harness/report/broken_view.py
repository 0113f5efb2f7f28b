"""Select the violated requirements to show at the top of the HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record
from harness.report.result_view import ResultView


@dataclass(frozen=True)
class BrokenRequirement:
    """A violated requirement. ``name`` is the id, and ``must`` the sentence of the requirement, "" if it is not known.

    ``ran`` is the number of tests of this requirement that ran, and ``failed`` the number of those that failed.
    ``worst`` is the failed test that shows the violation best.
    """

    name: str
    must: str
    failed: int
    ran: int
    worst: ResultView


@dataclass(frozen=True)
class Broken:
    """The violated requirements. ``named`` are the few that most likely explain the failures.

    Every failed test with requirements has at least one of ``named``. ``others`` are the other requirements of the
    failed tests.
    """

    named: tuple[BrokenRequirement, ...]
    others: tuple[BrokenRequirement, ...]


def broken_requirements(about: Record, views: Sequence[ResultView]) -> Broken:
    """Return the requirements that most likely explain the failures.

    An error in one rule makes tests of other rules fail as well. Therefore a failed test counts more for a requirement
    if it has few other requirements, and a test that one requirement explains does not count for other requirements.
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
    """Return a violated requirement with the test of ``shown`` that shows the violation best.

    This is a test with few requirements, few failed checks and, in an output case, wrong outputs.
    """
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    worst = min(shown, key=lambda view: (len(view.requirements.split()), _failed_elsewhere(view), view.also_failed))
    failed = sum(view.status in PROBLEMS for view in ran)
    return BrokenRequirement(name, listed.get(name, {}).get("must", ""), failed, len(ran), worst)


def _failed_elsewhere(view: ResultView) -> bool:
    """Return whether the test is an output case whose first failed check is not about its outputs."""
    return view.kind == "output" and view.first_failure is not None and view.first_failure.output is None
