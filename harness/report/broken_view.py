"""Select the violated requirements to show at the top of the HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record
from harness.report.result_view import ResultView


@dataclass(frozen=True)
class BrokenRequirement:
    """A violated requirement. ``name`` is its id, and ``must`` is the requirement as a sentence, "" if it is not known.

    ``ran`` is the number of tests of this requirement that ran, and ``failed`` is how many of them failed. ``worst`` is
    the failed test that shows the violation most clearly.
    """

    name: str
    must: str
    failed: int
    ran: int
    worst: ResultView


@dataclass(frozen=True)
class Broken:
    """The violated requirements of a run. ``named`` are the few that most likely explain the failures.

    Every failed test that has requirements has at least one of those in ``named``. ``others`` has the requirements of
    failed tests that are not in ``named``.
    """

    named: tuple[BrokenRequirement, ...]
    others: tuple[BrokenRequirement, ...]


def broken_requirements(about: Record, views: Sequence[ResultView]) -> Broken:
    """Return the violated requirements, divided into those that most likely explain the failures and the others.

    An engine that breaks one rule also fails tests of other rules. Therefore a failed test counts more for each of its
    requirements if it has few of them. The requirement that counts most is chosen, its tests are removed, and this is
    repeated until no failed test is left.
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
    """Return the violated requirement ``name``, with the failed test that shows the violation most clearly.

    The test is chosen from ``shown``, which are failed tests of the requirement: one with the fewest requirements. Of
    these, tests for which ``_failed_elsewhere`` is False come first, and then tests with fewer failed checks. ``ran``
    has all tests of the requirement that ran.
    """
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    worst = min(shown, key=lambda view: (len(view.requirements.split()), _failed_elsewhere(view), view.also_failed))
    failed = sum(view.status in PROBLEMS for view in ran)
    return BrokenRequirement(name, listed.get(name, {}).get("must", ""), failed, len(ran), worst)


def _failed_elsewhere(view: ResultView) -> bool:
    """Return whether the test is an output case whose first failed check is not about its outputs."""
    return view.kind == "output" and view.first_failure is not None and view.first_failure.output is None
