"""Run tests of the suites in suites/ without pytest, on any driver."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from harness.cases.failure_text import failure_text
from harness.cases.run import run_test
from harness.cases.skip_reasons import missing_capability
from harness.cases.test import Test
from harness.drivers.base import Driver, Session
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from harness.suites.schema import AnySuite
from harness.types import EngineSetup
from tests.helpers.paths import SUITES

Sessions = dict[EngineSetup, Session]
"""Sessions that have been opened, by the setup of their engine."""


@lru_cache
def suite_of(path: Path) -> AnySuite:
    return load_suite(path).suite


def all_tests(driver: Driver) -> list[Test]:
    """Return every test of the suites that the driver can run, as a list."""
    return list(tests_of(driver))


def tests_of(driver: Driver) -> Iterator[Test]:
    """Yield every test of the suites that the driver can run."""
    for path in sorted(
        path for kind in ("scheduler_steps", "behaviour", "output") for path in (SUITES / kind).glob("*.yaml")
    ):
        suite = suite_of(path)
        for expanded in expand(suite, ["tiny-granite"]):
            if driver.unavailable(expanded.setup) or missing_capability(expanded, driver.capabilities):
                continue
            yield Test(path, suite.suite, expanded, driver.capabilities, "pytest … --cb-bless")


def outcome_of(test: Test, driver: Driver, sessions: Sessions) -> str | None:
    """Run a test and return the text of its failure, or None if it passed.

    Sessions are taken from ``sessions`` and added to it, so that tests with the same engine setup share an engine.
    """
    setup = test.expanded.setup
    session = sessions.setdefault(setup, driver.open(setup)) if setup not in sessions else sessions[setup]
    verdicts = run_test(test, session)
    if all(verdict.passed for verdict in verdicts):
        return None
    return failure_text(test.expanded, verdicts, "suite.yaml:1", test.bless_command)


def case_named(name: str, driver: Driver) -> Test:
    return next(test for test in tests_of(driver) if test.expanded.case.id == name)
