"""The change of each test from one run to another."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from harness.compare.results import Key, Record, Run, reason_of


class Kind(StrEnum):
    """Kinds of changes, in the order in which they are reported."""

    WORSE = "worse"
    BETTER = "better"
    OTHERWISE = "otherwise"
    NEW = "new"
    GONE = "gone"
    SAME = "same"


MEANING: Mapping[Kind, str] = {
    Kind.WORSE: "passed in the first, fails in the second",
    Kind.BETTER: "failed in the first, passes in the second",
    Kind.OTHERWISE: "fails in both, in different ways",
    Kind.NEW: "ran in the second only",
    Kind.GONE: "ran in the first only",
    Kind.SAME: "the same in both",
}
_RAN = {"passed": True, "xpassed": True, "flaky": False, "xfailed": False, "failed": False, "error": False}
"""Outcomes of tests that ran, and whether the engine was correct. Others, such as skipped, are not results."""


@dataclass(frozen=True)
class Change:
    """One test in two runs. ``before`` and ``after`` are None if the run does not have it."""

    key: Key
    before: Record | None
    after: Record | None

    @cached_property
    def kind(self) -> Kind:
        good, now = _good(self.before), _good(self.after)
        if good is None or now is None:
            return Kind.SAME if good is now else Kind.NEW if good is None else Kind.GONE
        if good != now:
            return Kind.BETTER if now else Kind.WORSE
        return Kind.SAME if good or reason_of(self.before) == reason_of(self.after) else Kind.OTHERWISE

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return the requirements of the case, from the later run."""
        return tuple(map(str, (self.after or self.before or {}).get("requirements", ())))

    @property
    def name(self) -> str:
        """Return ``suite case [configuration]``."""
        suite, case, configuration = self.key
        return " ".join(filter(None, (suite, case, f"[{configuration}]" if configuration else "")))

    def outcome(self, record: Record | None) -> str:
        """Return the outcome in that run."""
        return str(record["outcome"]) if record is not None else "not there"


@dataclass(frozen=True)
class Comparison:
    """Two runs: all tests of the first, in its order, then those that are only in the second."""

    before: Run
    after: Run
    changes: tuple[Change, ...]

    @property
    def counts(self) -> Mapping[Kind, int]:
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in Kind}

    @property
    def different(self) -> list[Change]:
        """Return the changes, without unchanged tests, the worst first."""
        return [change for kind in Kind if kind is not Kind.SAME for change in self.changes if change.kind is kind]

    @property
    def by_requirement(self) -> Mapping[str, Mapping[Kind, int]]:
        """Return the number of tests by kind of change, for each requirement with changes, sorted by name."""
        found: dict[str, Counter[Kind]] = {}
        for change in self.changes:
            for requirement in change.requirements:
                found.setdefault(requirement, Counter())[change.kind] += 1
        return {
            name: {kind: kinds[kind] for kind in Kind}
            for name, kinds in sorted(found.items())
            if set(kinds) - {Kind.SAME}
        }


def compare_runs(before: Run, after: Run) -> Comparison:
    """Compare all tests of both runs."""
    return Comparison(before, after, tuple(_changes(before, after)))


def _changes(before: Run, after: Run) -> Iterator[Change]:
    for key in dict.fromkeys([*before.results, *after.results]):
        yield Change(key, before.results.get(key), after.results.get(key))


def _good(record: Record | None) -> bool | None:
    return None if record is None else _RAN.get(record["outcome"])
