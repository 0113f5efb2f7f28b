"""Tests that every mutation of the engine makes the case fail that must detect it, with a message about the fault."""

import re

import pytest

from harness.cases.test import Test
from harness.drivers.base import Driver
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from tests.harness.mutations.engine import (
    BUDGET_MUTATIONS,
    BUDGET_OUTPUT_MUTATIONS,
    CHUNKED_MUTATIONS,
    CHUNKED_OUTPUT_MUTATIONS,
    END_MUTATIONS,
    OUTPUT_MUTATIONS,
    SCHEDULE_MUTATIONS,
    SHAPE_MUTATIONS,
    START_MUTATIONS,
    Mutation,
    as_table,
)
from tests.helpers.cases import Sessions, all_tests, case_named, outcome_of
from tests.helpers.paths import SUITES


def names(mutations: list[Mutation]) -> list[str]:
    return [mutation.name for mutation in mutations]


SCHEDULES = [*SCHEDULE_MUTATIONS, *CHUNKED_MUTATIONS, *BUDGET_MUTATIONS]
OUTPUTS = [*OUTPUT_MUTATIONS, *END_MUTATIONS, *CHUNKED_OUTPUT_MUTATIONS, *BUDGET_OUTPUT_MUTATIONS]


@pytest.mark.parametrize("mutation", SCHEDULES, ids=names(SCHEDULES))
def test_a_broken_schedule_is_caught_by_its_case(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimulationDriver()
    test = case_named(mutation.caught_by, driver)
    assert outcome_of(test, driver, {}) is None, "the case must pass on the engine as it is"
    mutation.patch(monkeypatch)
    text = outcome_of(test, driver, {})
    assert text is not None, f"{mutation.caught_by} passes on an engine that does this: {mutation.name}"
    assert mutation.message in text, text
    assert "step " in text
    assert re.search(r"rule: docs/scheduling-rules(-chunked|-token-budget)?\.md", text)


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return {}


@pytest.mark.parametrize("mutation", OUTPUTS, ids=names(OUTPUTS))
def test_wrong_outputs_and_ends_are_caught_by_their_case(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, sessions: Sessions
) -> None:
    driver = ReferenceDriver()
    test = case_named(mutation.caught_by, driver)
    mutation.patch(monkeypatch)
    text = outcome_of(test, driver, sessions)
    assert text is not None, f"{mutation.caught_by} passes on an engine that does this: {mutation.name}"
    assert mutation.message in text, text


def on_the_device(name: str, driver: Driver) -> Test:
    tests = (test for test in all_tests(driver) if test.expanded.configuration.backend == "sendnn")
    return next(test for test in tests if test.expanded.case.id == name)


@pytest.mark.parametrize("mutation", SHAPE_MUTATIONS, ids=names(SHAPE_MUTATIONS))
def test_the_device_refuses_what_breaks_its_rules(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, sessions: Sessions
) -> None:
    driver = ReferenceDriver()
    test = on_the_device(mutation.caught_by, driver)
    if test.expanded.setup not in sessions:
        assert outcome_of(test, driver, sessions) is None, "the case must pass on the engine as it is"
    mutation.patch(monkeypatch)
    text = outcome_of(test, driver, sessions)
    assert text is not None, f"{mutation.caught_by} passes on an engine that does this: {mutation.name}"
    assert mutation.message in text, text


@pytest.mark.parametrize("mutation", START_MUTATIONS, ids=names(START_MUTATIONS))
def test_the_device_does_not_start_with_what_breaks_its_rules(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = ReferenceDriver()
    test = on_the_device(mutation.caught_by, driver)
    mutation.patch(monkeypatch)
    with pytest.raises(ValueError, match="the engine did not start: ") as caught:
        outcome_of(test, driver, {})
    assert mutation.message in str(caught.value)


def test_nothing_is_caught_where_nothing_is_broken() -> None:
    driver = SimulationDriver()
    sessions: Sessions = {}
    failing = [test.expanded.name for test in all_tests(driver) if outcome_of(test, driver, sessions)]
    assert failing == []
    assert len(all_tests(driver)) >= 28


def test_the_page_of_mutations_is_up_to_date() -> None:
    page = SUITES.parent / "docs" / "mutations.md"
    assert page.read_text(encoding="utf-8") == as_table(), (
        "write it:  python -m tests.harness.mutations.engine > docs/mutations.md"
    )
    assert len(SCHEDULES) + len(OUTPUTS) >= 110
