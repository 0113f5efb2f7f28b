"""What became of each test from one run to another."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from harness.compare.results import Key, Record, Run, reason_of


class Kind(StrEnum):
    """In the order in which they are told."""

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
"""Outcomes of tests that ran, and whether the engine did right. Any other, a skip first of all, says nothing."""


@dataclass(frozen=True)
class Change:
    """One test in two runs. ``before`` and ``after`` are None where that run does not have it."""

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
        """Those of the case, as the later run has them."""
        return tuple(map(str, (self.after or self.before or {}).get("requirements", ())))

    @property
    def name(self) -> str:
        """``suite case [configuration]``."""
        suite, case, configuration = self.key
        return " ".join(filter(None, (suite, case, f"[{configuration}]" if configuration else "")))

    def outcome(self, record: Record | None) -> str:
        """What came of it there, in a word."""
        return str(record["outcome"]) if record is not None else "not there"


@dataclass(frozen=True)
class Comparison:
    """Two runs: every test of either, in the order of the first run, then those of the second only."""

    before: Run
    after: Run
    changes: tuple[Change, ...]

    @property
    def counts(self) -> Mapping[Kind, int]:
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in Kind}

    @property
    def different(self) -> list[Change]:
        """What is not the same, the worst first."""
        return [change for kind in Kind if kind is not Kind.SAME for change in self.changes if change.kind is kind]

    @property
    def by_requirement(self) -> Mapping[str, Mapping[Kind, int]]:
        """For every requirement whose cases differ, how many tests of each kind it has; by name."""
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
    """Every test of both runs, held against each other."""
    return Comparison(before, after, tuple(_changes(before, after)))


def _changes(before: Run, after: Run) -> Iterator[Change]:
    for key in dict.fromkeys([*before.results, *after.results]):
        yield Change(key, before.results.get(key), after.results.get(key))


def _good(record: Record | None) -> bool | None:
    return None if record is None else _RAN.get(record["outcome"])
