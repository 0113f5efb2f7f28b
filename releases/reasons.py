"""Read releases/reasons.yaml, which says why cases fail with releases, and find the reason of a failed case."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from releases.bugs import Bug
from releases.kept import Kept, order

TABLE = Path(__file__).with_name("reasons.yaml")


class ReasonsError(ValueError):
    """A case failed without a known reason, or the table has a mistake. The message is one sentence."""


@dataclass(frozen=True)
class Reason:
    """Why some cases fail with some releases.

    ``why`` is a sentence for docs/releases.md. ``cases`` are patterns of names of cases. ``first`` is the first release
    with which the cases fail, and ``before`` the first release after it with which they do not; without ``first`` or
    ``before``, the range of releases is open on this side. ``scheduler`` limits the reason to one scheduler, and
    ``says`` is a regular expression that the failure must match.
    """

    why: str
    cases: tuple[str, ...]
    first: str = ""
    before: str = ""
    scheduler: str = ""
    says: str = ""

    def explains(self, kept: Kept, case: str) -> bool:
        """Return whether this reason explains why the case ``case`` failed with the release of the results ``kept``."""
        return (
            self._has(kept)
            and any(fnmatchcase(case, pattern) for pattern in self.cases)
            and bool(re.search(self.says, kept.cases[case].why))
        )

    def _has(self, kept: Kept) -> bool:
        place = order(kept.name)[:2]
        after_the_first = not self.first or order(self.first)[:2] <= place
        before_the_end = not self.before or place < order(self.before)[:2]
        return after_the_first and before_the_end and self.scheduler in ("", kept.scheduler)


def read_reasons(path: Path = TABLE) -> list[Reason]:
    """Return the reasons in the order of the file. Raises ReasonsError for an entry without cases."""
    reasons = [Reason(**{**entry, "cases": tuple(entry["cases"])}) for entry in yaml.safe_load(path.read_text())]
    for reason in reasons:
        if not reason.cases:
            raise ReasonsError(f"{path.name}: the reason {reason.why!r} has no cases; name some, or remove it")
    return reasons


def reasons_of(kept: Kept, bugs: Sequence[Bug], reasons: Sequence[Reason]) -> Mapping[str, str]:
    """Return why each failed case of a release fails: the first bug, or else the first reason, that explains it.

    Raises ReasonsError if no bug and no reason explains a failed case. If not all kinds of suites ran on the release,
    cases may fail without a reason.
    """
    found = {}
    for case, result in kept.cases.items():
        if result.outcome == "failed":
            why = next(_reasons(kept, case, bugs, reasons), "")
            if not why and kept.is_whole:
                raise ReasonsError(f"{kept.name}: {case} fails without a reason in {TABLE.name}: {result.why}")
            found[case] = why
    return found


def _reasons(kept: Kept, case: str, bugs: Sequence[Bug], reasons: Sequence[Reason]) -> Iterator[str]:
    for bug in bugs:
        if case in bug.cases and not bug.is_rebuilt and order(kept.name) < order(bug.after):
            yield f"bug {bug.pull}"
    for reason in reasons:
        if reason.explains(kept, case):
            yield reason.why
