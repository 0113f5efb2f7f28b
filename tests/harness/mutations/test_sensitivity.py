"""Tests that the policy ``golden`` detects every numerical mutation, and that the table in docs/outputs.md is right."""

import pytest

from tests.harness.mutations.sensitivity import NUMERICAL, ROUNDING, Caught, as_table, measure
from tests.helpers.paths import DOCS

PAGE = DOCS / "outputs.md"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Caught]]:
    return measure()


@pytest.mark.parametrize("mutation", [mutation.name for mutation in NUMERICAL])
def test_golden_catches_every_fault_but_rounding_which_passes(
    mutation: str, found: dict[str, dict[str, Caught]]
) -> None:
    assert (found[mutation]["golden"].wrong > 0) is (mutation != ROUNDING)
    assert found[mutation]["golden"].requests == 6


def test_the_table_of_what_each_policy_catches_is_true(found: dict[str, dict[str, Caught]]) -> None:
    assert as_table(found) in PAGE.read_text(encoding="utf-8"), (
        "write it into docs/outputs.md:  python -m tests.harness.mutations.sensitivity"
    )
