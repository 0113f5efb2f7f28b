"""Which requirements do not hold: the shortest way from a page that was opened to the rule that is broken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.outcomes import PROBLEMS, Record
from harness.report.result_view import ResultView


@dataclass(frozen=True)
class BrokenRequirement:
    """``must`` is its sentence, where it is known; ``worst`` is the test that shows best what is wrong."""

    name: str
    must: str
    failed: int
    ran: int
    worst: ResultView


@dataclass(frozen=True)
class Broken:
    """``named`` are as few requirements as explain all that went wrong; ``beside`` failed in the same tests."""

    named: tuple[BrokenRequirement, ...]
    beside: tuple[BrokenRequirement, ...]


def broken_requirements(about: Record, views: Sequence[ResultView]) -> Broken:
    """A fault in one rule also breaks tests of others. So a test counts the more for a requirement the fewer it is
    about beside it, and tests that one requirement explains count for no other.
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
    beside = [
        _broken(name, about, tests, bad)
        for name, tests in ran.items()
        if name not in explained and (bad := [view for view in tests if view.status in PROBLEMS])
    ]
    return Broken(tuple(named), tuple(beside))


def _broken(name: str, about: Record, ran: Sequence[ResultView], shown: Sequence[ResultView]) -> BrokenRequirement:
    """Of ``shown`` the test that is about least, in which what it is about went wrong first, and little else did."""
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    worst = min(shown, key=lambda view: (len(view.requirements.split()), _beside_itself(view), view.also_failed))
    failed = sum(view.status in PROBLEMS for view in ran)
    return BrokenRequirement(name, listed.get(name, {}).get("must", ""), failed, len(ran), worst)


def _beside_itself(view: ResultView) -> bool:
    """Whether a test of outputs failed first in something else than an output."""
    return view.kind == "output" and view.first_failure is not None and view.first_failure.output is None
