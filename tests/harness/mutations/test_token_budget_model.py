"""Tests that golden tables detect wrong scheduling rules.

Each test changes one rule in the scheduler model of ``token_budget``. The steps that the changed model predicts must
differ from the golden table of the case that is named for the change.
"""

from functools import lru_cache

import pytest

from harness.cases.test import Test
from harness.cases.workload import specs_of
from harness.drivers.reference import SimulationDriver
from harness.golden.tables import golden_path, read_golden
from harness.runs.plain_decodes import lengthen
from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import requests_with_tokens
from harness.schedulers.token_budget.model import predict
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from harness.suites.schema import StepsCase
from harness.types import SchedulingLimits, StepRow, TokenBudgetSetup
from tests.harness.mutations.token_budget_model import MUTATIONS, Patch
from tests.helpers.paths import SUITES

PATHS = sorted((SUITES / "scheduler_steps").glob("token_budget*.yaml"))


@lru_cache
def cases_by_id() -> dict[str, Test]:
    found: dict[str, Test] = {}
    for path in PATHS:
        for expanded in expand(load_suite(path).suite, ["tiny-granite"]):
            test = Test(path, "", expanded, SimulationDriver.capabilities, "")
            found.setdefault(expanded.case.id, test)
    return found


def predicted(test: Test) -> list[StepRow]:
    case, options, given = test.expanded.case, test.expanded.options, test.expanded.limits
    assert isinstance(case, StepsCase)
    assert isinstance(options, TokenBudgetSetup)
    limits = SchedulingLimits(given.max_model_len or 512, given.max_num_seqs or 4, given.available_blocks or 32)
    return list(predict(limits, options, requests_with_tokens(specs_of(test, case), case.requests, None)))


def named(mutation: tuple[str, Patch]) -> str:
    return mutation[1].__name__.replace("_", "-")


@pytest.mark.parametrize(("case_id", "patch"), MUTATIONS, ids=map(named, MUTATIONS))
def test_a_wrong_model_contradicts_its_case(case_id: str, patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    test = cases_by_id()[case_id]
    golden = lengthen(read_golden(golden_path(test.suite_path, case_id), ""))
    assert predicted(test) == golden, "the model as it is must agree"
    patch(monkeypatch)
    try:
        wrong = predicted(test)
    except ImpossibleWorkload:
        return  # The faulty model says that the workload never ends, which contradicts the table, too.
    assert wrong != golden, f"{case_id} does not detect the fault: the faulty model predicts the case's golden table"


def test_there_are_enough() -> None:
    assert len(MUTATIONS) >= 20
