"""Determine how the result of each test changed between two runs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from harness.compare.results import Key, Record, Run, reason_of


class Kind(StrEnum):
    """How the result of a test differs between two runs. ``MEANING`` describes each kind.

    Reports list tests by kind, in the order in which the kinds are defined here.
    """

    WORSE = "worse"
    BETTER = "better"
    OTHERWISE = "otherwise"
    NEW = "new"
    GONE = "gone"
    SAME = "same"


MEANING: Mapping[Kind, str] = {
    Kind.WORSE: "passed in the first run, fails in the second",
    Kind.BETTER: "failed in the first run, passes in the second",
    Kind.OTHERWISE: "fails in both runs, for different reasons",
    Kind.NEW: "ran in the second run only",
    Kind.GONE: "ran in the first run only",
    Kind.SAME: "the same in both runs",
}
_RAN = {"passed": True, "xpassed": True, "flaky": False, "xfailed": False, "failed": False, "error": False}
"""Whether the engine behaved correctly, by the outcome of a test that ran.

A test with an outcome that is not listed, such as ``skipped``, is treated as if the run did not have the test.
"""


@dataclass(frozen=True)
class Change:
    """One test in two runs.

    ``before`` is the test's record in the first run and ``after`` that in the second. A record is None if its run does
    not have the test.
    """

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
        """Return the ids of the requirements that the test's case checks, from the second run if it has the test."""
        return tuple(map(str, (self.after or self.before or {}).get("requirements", ())))

    @property
    def name(self) -> str:
        """Return the suite, the case and the configuration of the test as ``suite case [configuration]``."""
        suite, case, configuration = self.key
        return " ".join(filter(None, (suite, case, f"[{configuration}]" if configuration else "")))

    def outcome(self, record: Record | None) -> str:
        """Return the outcome in ``record``, the record of this test in one of the two runs, as text for reports."""
        return str(record["outcome"]) if record is not None else "not in this run"


@dataclass(frozen=True)
class Comparison:
    """The comparison of two runs, with one entry of ``changes`` for each test, even if its result did not change.

    The tests of the first run come first, in their order in that run. The tests that only the second run has follow.
    """

    before: Run
    after: Run
    changes: tuple[Change, ...]

    @property
    def counts(self) -> Mapping[Kind, int]:
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in Kind}

    @property
    def different(self) -> list[Change]:
        """Return the tests that changed, sorted by kind: tests that got worse come first."""
        return [change for kind in Kind if kind is not Kind.SAME for change in self.changes if change.kind is kind]

    @property
    def by_requirement(self) -> Mapping[str, Mapping[Kind, int]]:
        """Return, by the id of each requirement, the number of its tests with each kind of change.

        Requirements whose tests are all the same in both runs are left out.
        """
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
