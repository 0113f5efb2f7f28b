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


def broken_requirements(about: Record, views: Sequence[ResultView]) -> list[BrokenRequirement]:
    """Those of whose tests any went wrong; first the one of which the largest share did.

    What breaks a rule breaks most of its own tests, and some of others. So the test that is shown of each is one that
    tests the fewest requirements beside it.
    """
    listed: Mapping[str, Mapping[str, str]] = about.get("requirements", {})
    by_name: dict[str, list[ResultView]] = {}
    for view in views:
        if view.status != "skipped":
            for name in view.requirements.split():
                by_name.setdefault(name, []).append(view)
    found = []
    for name, ran in by_name.items():
        bad = [view for view in ran if view.status in PROBLEMS]
        if bad:
            worst = min(bad, key=lambda view: len(view.requirements.split()))
            found.append(BrokenRequirement(name, listed.get(name, {}).get("must", ""), len(bad), len(ran), worst))
    return sorted(found, key=lambda each: (-each.failed / each.ran, -each.failed))
