"""Numerical faults and the policies that detect them; the table in docs/outputs.md."""

from pathlib import Path

import pytest

from tests.harness.sensitivity import NUMERICAL, ROUNDING, Caught, as_table, measure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Caught]]:
    return measure()


@pytest.mark.parametrize("fault", [fault.name for fault in NUMERICAL])
def test_golden_catches_every_fault_but_rounding_which_passes(fault: str, found: dict[str, dict[str, Caught]]) -> None:
    assert (found[fault]["golden"].wrong > 0) is (fault != ROUNDING)
    assert found[fault]["golden"].requests == 6


def test_the_table_of_what_each_policy_catches_is_true(found: dict[str, dict[str, Caught]]) -> None:
    assert as_table(found) in PAGE.read_text(encoding="utf-8"), (
        "write it into docs/outputs.md:  python -m tests.harness.sensitivity"
    )
