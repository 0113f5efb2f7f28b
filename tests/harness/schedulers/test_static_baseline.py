"""Tests with static batching instead of continuous batching: steps differ from the rules, but outputs are right."""

from dataclasses import replace

from harness.cases.test import Test
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from tests.helpers.cases import Sessions, all_tests, case_named, outcome_of


def with_static_batching(test: Test) -> Test:
    configuration = replace(test.expanded.configuration, scheduler="static")
    return replace(test, expanded=replace(test.expanded, configuration=configuration))


def test_cases_in_which_a_request_joins_a_batch_fail_on_static_batching() -> None:
    driver = SimulationDriver()
    sessions: Sessions = {}
    continuous_tests = [t for t in all_tests(driver) if t.expanded.configuration.scheduler == "continuous"]
    failing = {
        test.expanded.case.id
        for test in map(with_static_batching, continuous_tests)
        if outcome_of(test, driver, sessions)
    }
    assert {"new-sequence-joins-during-decode", "one-request-more-than-the-batch", "requests-trickle-in"} <= failing
    assert len(failing) >= 35
    assert "all-finish-together" not in failing, "where nobody joins on the way the two are the same"


def test_its_outputs_are_right_all_the_same() -> None:
    driver = ReferenceDriver()
    text = outcome_of(with_static_batching(case_named("new-sequence-joins-during-decode", driver)), driver, {})
    assert text is not None
    assert "expected a prefill of 1" in text
    assert "Hugging Face" not in text
