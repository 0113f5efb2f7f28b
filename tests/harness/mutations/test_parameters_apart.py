"""Tests that the case of each parameter, and of each kind of structured outputs, tests nothing else.

A mutation of one parameter must make the case of that parameter fail, and the cases of all other parameters pass.
"""

import pytest

from harness.cases.test import Test
from harness.drivers.base import Session
from harness.drivers.reference import ReferenceDriver
from tests.harness.mutations.parameters import CASES, ignoring
from tests.harness.mutations.registry import Patch
from tests.harness.mutations.structure_kinds import KIND_CASES, loosening
from tests.helpers.cases import case_named, outcome_of

DRIVER = ReferenceDriver()


@pytest.fixture(scope="module")
def sessions() -> dict[object, Session]:
    return {}


def caught(patch: Patch, cases: dict[str, Test], sessions: dict[object, Session]) -> set[str]:
    """Return those keys of ``cases`` whose case fails on an engine with the patch."""
    with pytest.MonkeyPatch.context() as inner:
        patch(inner)
        return {name for name, test in cases.items() if outcome_of(test, DRIVER, sessions)}  # type: ignore[arg-type]


def test_every_case_of_a_parameter_is_about_it_alone(sessions: dict[object, Session]) -> None:
    cases = {name: case_named(case, DRIVER) for name, case in CASES.items()}
    found = {name: caught(ignoring(name), cases, sessions) for name in CASES}
    assert found == {name: {name} for name in CASES}


def test_every_case_of_a_kind_of_structure_is_about_it_alone(sessions: dict[object, Session]) -> None:
    cases = {kind: case_named(case, DRIVER) for kind, case in KIND_CASES.items()}
    found = {kind: caught(loosening(kind), cases, sessions) for kind in KIND_CASES}
    assert found == {kind: {kind} for kind in KIND_CASES}
