"""Tests that the rules quoted in failures exist as headings in docs/scheduling-rules.md."""

import re

import pytest

from harness.schedulers.continuous.invariants import RULES as INVARIANTS
from harness.schedulers.continuous.rules import rule_for, rule_for_kinds
from harness.suites.schema import COLUMNS
from tests.helpers.paths import DOCS

DOCUMENT = DOCS / "scheduling-rules.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)
KINDS = ("start", "prefill", "decode", "idle")
QUOTE = re.compile(r'"([^"]+)"(?:, (\d))?')

QUOTING = {
    **{f"{kind} {column}": rule_for(kind, column) for kind in KINDS for column in COLUMNS[1:]},
    **{f"{due} seen as {seen}": rule_for_kinds(due, seen) for due in KINDS for seen in KINDS if seen != due},
    **{f"invariant {name}": rule for name, rule in INVARIANTS.items()},
}


def section(heading: str) -> str:
    """Return the text below a heading of docs/scheduling-rules.md, with its subsections, by the heading's beginning."""
    lines = TEXT.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"#+ {re.escape(heading)}\b", line))
    level = lines[start].index(" ")
    after = (i for i, line in enumerate(lines) if i > start and re.match(rf"#{{1,{level}}} ", line))
    return "\n".join(lines[start + 1 : next(after, len(lines))])


@pytest.mark.parametrize("rule", QUOTING.values(), ids=QUOTING.keys())
def test_a_rule_quotes_headings_that_the_document_has(rule: str) -> None:
    quotes = QUOTE.findall(rule)
    assert rule.startswith("docs/scheduling-rules.md ")
    assert DOCUMENT.is_file()
    assert quotes
    for heading, number in quotes:
        assert any(re.match(rf"{re.escape(heading)}\b", known) for known in HEADINGS), heading
        if number:
            assert re.search(rf"^{number}\. ", section(heading), flags=re.MULTILINE), f"{heading}, {number}"


def test_quoted_headings_differ_in_their_beginnings() -> None:
    for heading in {heading for rule in QUOTING.values() for heading, _ in QUOTE.findall(rule)}:
        assert len([known for known in HEADINGS if re.match(rf"{re.escape(heading)}\b", known)]) == 1, heading


@pytest.mark.parametrize(("kind", "other"), [("prefill", "decode"), ("prefill", "idle")])
def test_a_prefill_too_many_and_one_too_few_are_a_matter_of_admission(kind: str, other: str) -> None:
    assert rule_for_kinds(kind, other) == rule_for_kinds(other, kind)
    assert '"Admission"' in rule_for_kinds(kind, other)


def test_a_wrong_kind_without_a_prefill_quotes_the_expected_kind() -> None:
    assert rule_for_kinds("decode", "idle") == rule_for("decode", "outputs")
    assert rule_for_kinds("idle", "decode") == rule_for("idle", "outputs")


def test_the_rule_of_a_column_depends_on_the_kind_of_the_step() -> None:
    for column in ("tkv", "reserved", "used", "waiting", "outputs", "finished"):
        assert rule_for("prefill", column) != rule_for("decode", column)
        assert rule_for("idle", column) != rule_for("start", column)
