"""Every mutation of the engine must be detected by its case, with a message that leads to the fault."""

import re
from functools import lru_cache
from pathlib import Path

import pytest

from harness.cases.failure_text import failure_text
from harness.cases.needs import missing_capability
from harness.cases.run import run_test
from harness.cases.test import Test
from harness.drivers.base import Driver
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from harness.suites.schema import AnySuite
from tests.harness.planted import (
    BUDGET_FAULTS,
    BUDGET_OUTPUT_FAULTS,
    CHUNKED_FAULTS,
    CHUNKED_OUTPUT_FAULTS,
    END_FAULTS,
    OUTPUT_FAULTS,
    SCHEDULE_FAULTS,
    SHAPE_FAULTS,
    START_FAULTS,
    Fault,
    as_table,
)

SUITES = Path(__file__).resolve().parents[2] / "suites"


@lru_cache
def suite_of(path: Path) -> AnySuite:
    return load_suite(path).suite


def all_tests(driver: Driver) -> list[Test]:
    """Return every test of the suites that the driver can run."""
    tests = []
    for path in sorted(
        path for kind in ("scheduler_steps", "behaviour", "output") for path in (SUITES / kind).glob("*.yaml")
    ):
        suite = suite_of(path)
        for expanded in expand(suite, ["tiny-granite"]):
            if driver.unavailable(expanded.setup) or missing_capability(expanded, driver.capabilities):
                continue
            tests.append(Test(path, suite.suite, expanded, driver.capabilities, "pytest … --cb-bless"))
    return tests


def outcome_of(test: Test, driver: Driver, sessions: dict) -> str | None:
    """Return the text of the failure, or None if the test passed."""
    setup = test.expanded.setup
    session = sessions.setdefault(setup, driver.open(setup)) if setup not in sessions else sessions[setup]
    verdicts = run_test(test, session)
    if all(verdict.passed for verdict in verdicts):
        return None
    return failure_text(test.expanded, verdicts, "suite.yaml:1", test.bless_command)


def case_named(name: str, driver: Driver) -> Test:
    return next(test for test in all_tests(driver) if test.expanded.case.id == name)


def names(faults: list[Fault]) -> list[str]:
    return [fault.name for fault in faults]


SCHEDULES = [*SCHEDULE_FAULTS, *CHUNKED_FAULTS, *BUDGET_FAULTS]
OUTPUTS = [*OUTPUT_FAULTS, *END_FAULTS, *CHUNKED_OUTPUT_FAULTS, *BUDGET_OUTPUT_FAULTS]


@pytest.mark.parametrize("fault", SCHEDULES, ids=names(SCHEDULES))
def test_a_broken_schedule_is_caught_by_its_case(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimulationDriver()
    test = case_named(fault.caught_by, driver)
    assert outcome_of(test, driver, {}) is None, "the case must pass on the engine as it is"
    fault.patch(monkeypatch)
    text = outcome_of(test, driver, {})
    assert text is not None, f"{fault.caught_by} passes on an engine that does this: {fault.name}"
    assert fault.says in text, text
    assert "step " in text
    assert re.search(r"rule: docs/scheduling-rules(-chunked|-token-budget)?\.md", text)


@pytest.fixture(scope="module")
def sessions() -> dict:
    return {}


@pytest.mark.parametrize("fault", OUTPUTS, ids=names(OUTPUTS))
def test_wrong_outputs_and_ends_are_caught_by_their_case(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, sessions: dict
) -> None:
    driver = ReferenceDriver()
    test = case_named(fault.caught_by, driver)
    fault.patch(monkeypatch)
    text = outcome_of(test, driver, sessions)
    assert text is not None, f"{fault.caught_by} passes on an engine that does this: {fault.name}"
    assert fault.says in text, text


def on_the_device(name: str, driver: Driver) -> Test:
    tests = (test for test in all_tests(driver) if test.expanded.configuration.backend == "sendnn")
    return next(test for test in tests if test.expanded.case.id == name)


@pytest.mark.parametrize("fault", SHAPE_FAULTS, ids=names(SHAPE_FAULTS))
def test_the_device_refuses_what_breaks_its_rules(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, sessions: dict
) -> None:
    driver = ReferenceDriver()
    test = on_the_device(fault.caught_by, driver)
    if test.expanded.setup not in sessions:
        assert outcome_of(test, driver, sessions) is None, "the case must pass on the engine as it is"
    fault.patch(monkeypatch)
    text = outcome_of(test, driver, sessions)
    assert text is not None, f"{fault.caught_by} passes on an engine that does this: {fault.name}"
    assert fault.says in text, text


@pytest.mark.parametrize("fault", START_FAULTS, ids=names(START_FAULTS))
def test_the_device_does_not_start_with_what_breaks_its_rules(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = ReferenceDriver()
    test = on_the_device(fault.caught_by, driver)
    fault.patch(monkeypatch)
    with pytest.raises(ValueError, match="the engine did not start: ") as caught:
        outcome_of(test, driver, {})
    assert fault.says in str(caught.value)


def test_nothing_is_caught_where_nothing_is_broken() -> None:
    driver, sessions = SimulationDriver(), {}
    failing = [test.expanded.name for test in all_tests(driver) if outcome_of(test, driver, sessions)]
    assert failing == []
    assert len(all_tests(driver)) >= 28


def test_the_page_of_mutations_is_up_to_date() -> None:
    page = SUITES.parent / "docs" / "planted-faults.md"
    assert page.read_text(encoding="utf-8") == as_table(), (
        "write it:  python -m tests.harness.planted > docs/planted-faults.md"
    )
    assert len(SCHEDULES) + len(OUTPUTS) >= 110
