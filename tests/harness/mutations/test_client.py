"""Tests that every mutation of the in-process entry points makes the case fail that must detect it."""

import pytest

from harness.cases.behaviour.named import CHECKS
from harness.cases.run import run_test
from harness.cases.test import Test
from harness.drivers.base import Session
from harness.drivers.reference import ReferenceDriver
from harness.suites.expand import expand
from tests.harness.mutations.client import CLIENT_MUTATIONS, as_table
from tests.harness.mutations.registry import Mutation
from tests.helpers.cases import suite_of
from tests.helpers.paths import SUITES

BEHAVIOUR = SUITES / "behaviour"


def case_named(name: str) -> Test:
    for path in sorted(BEHAVIOUR.glob("*.yaml")):
        suite = suite_of(path)
        for expanded in expand(suite, ["tiny-granite"]):
            configuration = expanded.configuration
            if expanded.case.id == name and (configuration.backend, configuration.entry_point) == (
                "eager",
                "in-process",
            ):
                return Test(path, suite.suite, expanded, ReferenceDriver.capabilities, "pytest … --cb-bless")
    raise LookupError(name)


@pytest.fixture(scope="module")
def session() -> Session:
    return ReferenceDriver().open(case_named("exact-counts-at-the-edges-of-blocks").expanded.setup)


@pytest.mark.parametrize("mutation", CLIENT_MUTATIONS, ids=[mutation.name for mutation in CLIENT_MUTATIONS])
def test_a_broken_client_is_caught_by_its_case(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    test = case_named(mutation.caught_by)
    mutation.patch(monkeypatch)
    failed = [verdict for verdict in run_test(test, session) if not verdict.passed]
    assert failed, f"{mutation.caught_by} passes at a client that does this: {mutation.name}"
    text = "\n".join(line for verdict in failed for line in (verdict.headline, *verdict.details))
    assert mutation.message in text, text


@pytest.mark.parametrize("name", sorted({mutation.caught_by for mutation in CLIENT_MUTATIONS}))
def test_nothing_is_caught_at_a_client_that_is_right(name: str, session: Session) -> None:
    assert [v.headline for v in run_test(case_named(name), session) if not v.passed] == []


def test_the_table_of_client_mutations_is_true() -> None:
    page = BEHAVIOUR.parents[1] / "docs" / "behaviour.md"
    assert as_table() in page.read_text(encoding="utf-8"), (
        "write it into docs/behaviour.md:  python -m tests.harness.mutations.client"
    )
    assert all(name in page.read_text(encoding="utf-8") for name in CHECKS)
