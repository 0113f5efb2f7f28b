"""Read the content of the catalogue: suites with their cases, and requirements with the cases that test them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.suites.discovery import suite_files
from harness.suites.expand import Expanded, expand
from harness.suites.loader import LoadedSuite, load_suite
from harness.suites.schema import Case
from harness.suites.yaml import read_yaml

MODEL = "tiny-granite"
"""The built-in model. Test ids in the catalogue are those of a run with this model."""


@dataclass(frozen=True)
class Entry:
    """A case of a suite, with its tests: one test for each configuration of the suite."""

    loaded: LoadedSuite
    tests: tuple[Expanded, ...]

    @property
    def case(self) -> Case:
        return self.tests[0].case

    @property
    def suite(self) -> str:
        """Return the name of the suite."""
        return self.loaded.suite.suite

    @property
    def place(self) -> str:
        """Return the test id without its configuration. The path is relative to the folder that contains ``suites``."""
        return f"suites/{self.suite}{self.loaded.path.suffix}::{self.case.id}"

    @property
    def events(self) -> frozenset[str]:
        """Return the names of the events that must happen in the case."""
        return frozenset(happening.event for happening in getattr(self.case, "happens", ()))


@dataclass(frozen=True)
class SuiteEntry:
    """A suite and its cases, in the order in which the suite's file lists them."""

    loaded: LoadedSuite
    cases: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return self.loaded.suite.suite

    @property
    def tests(self) -> int:
        """Return the number of tests of the suite with the built-in model."""
        return sum(len(entry.tests) for entry in self.cases)


@dataclass(frozen=True)
class Requirement:
    """A requirement, and the cases that test it.

    ``must`` is the sentence of the requirement, and ``source`` the heading of its rule in the documentation. If
    ``by_tests`` is true, no case can observe the requirement, and unit tests test it.
    """

    name: str
    must: str
    source: str
    by_tests: bool
    cases: tuple[Entry, ...]


@dataclass(frozen=True)
class Catalogue:
    """All suites of a folder. ``listed`` is the content of the folder's ``requirements.yaml``, by requirement id."""

    suites: tuple[SuiteEntry, ...]
    listed: Mapping[str, Mapping[str, Any]]

    @property
    def cases(self) -> Iterator[Entry]:
        """Yield every case."""
        return (entry for suite in self.suites for entry in suite.cases)

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """Return every requirement with its cases."""
        testing: dict[str, list[Entry]] = {name: [] for name in self.listed}
        for entry in self.cases:
            for name in entry.case.requirement:
                testing[name].append(entry)
        return tuple(
            Requirement(name, item["must"], item["source"], item.get("by") == "tests", tuple(testing[name]))
            for name, item in self.listed.items()
        )

    @cached_property
    def by_requirement(self) -> Mapping[str, Requirement]:
        """Return the requirements by id."""
        return {requirement.name: requirement for requirement in self.requirements}


def read_catalogue(folder: Path) -> Catalogue:
    """Read the catalogue of a folder of suites.

    Raises SuiteError or YamlError if a file is malformed.
    """
    suites = tuple(map(_suite, suite_files([folder])))
    return Catalogue(suites, read_yaml(folder / "requirements.yaml").data["requirements"])


def _suite(path: Path) -> SuiteEntry:
    loaded = load_suite(path)
    tests: Sequence[Expanded] = expand(loaded.suite, [MODEL])
    by_case: dict[int, list[Expanded]] = {}
    for test in tests:
        by_case.setdefault(test.index, []).append(test)
    return SuiteEntry(loaded, tuple(Entry(loaded, tuple(group)) for group in by_case.values()))
