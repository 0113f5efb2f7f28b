"""Tests of the comparison of a run's step table with the expected step table."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.checks.steps import check_steps, expected_kind
from harness.runs.plain_decodes import shorten
from harness.schedulers.continuous.rules import rule_for
from harness.suites.schema import COLUMNS
from harness.types import Run, StepRow, Verdict
from tests.helpers.harness import Simulated, a_request, doctored, simulate, two_that_overlap
from tests.helpers.narrow import present

SEEN = two_that_overlap()
ROWS = SEEN.rows
NAMED = [
    "state before any step",
    "prefill of 0",
    "decode of 0",
    "prefill of 1",
    "decode of 1 0",
    "decode of 1 0",
    "decode of 0",
    "step with nothing to run",
]


def with_row(number: int, **changes: Any) -> list[StepRow]:
    return [row._replace(**changes) if row.step == number else row for row in ROWS]


def table_line(verdict: Verdict, step: int) -> str:
    """Return the line for ``step`` in the table of a verdict. The line must be marked as wrong."""
    return next(line for line in verdict.details if line.split()[:2] == [">", str(step)])


def cell(value: int | tuple[int, ...]) -> str:
    return (" ".join(map(str, value)) or "-") if isinstance(value, tuple) else str(value)


def single_changes() -> Iterator[tuple[int, str, int | tuple[int, ...]]]:
    """Yield a step, a column and another value for each cell of the table.

    The value does not change the step's kind.
    """
    for row in ROWS:
        for column in COLUMNS[1:]:
            value = getattr(row, column)
            if column == "outputs":
                if len(value) < 2:
                    continue
                yield row.step, column, tuple(reversed(value))
            else:
                yield row.step, column, (*value, 7) if isinstance(value, tuple) else value + 64


def test_a_run_like_the_table_passes() -> None:
    verdict = check_steps(SEEN.run, ROWS)
    assert verdict.passed
    assert verdict.headline == "7 steps as expected"
    assert not verdict.details


def test_the_table_may_be_in_its_short_form() -> None:
    seen = simulate(a_request(60, 40))
    short = shorten(seen.rows)
    assert len(short) < len(seen.rows) // 4
    assert check_steps(seen.run, short).passed
    assert 10 not in {row.step for row in short}
    verdict = check_steps(doctored(seen.run, 10, used=3), short)
    assert verdict.headline == "step 10 differs (decode of 0): used 3, expected 2"
    assert verdict.data["differing"] == {"10": ["used"]}


@pytest.mark.parametrize(("step", "column", "expected"), [*single_changes()])
def test_a_single_other_cell_is_found_and_named(step: int, column: str, expected: int | tuple[int, ...]) -> None:
    verdict = check_steps(SEEN.run, with_row(step, **{column: expected}))
    seen = getattr(ROWS[step], column)
    assert not verdict.passed
    due = f"decode of {cell(expected)}" if column == "outputs" else NAMED[step]
    assert verdict.headline == f"step {step} differs ({due}): {column} {cell(seen)}, expected {cell(expected)}"
    assert f"{cell(seen)}≠{cell(expected)}" in table_line(verdict, step)
    assert "".join(verdict.details).count("≠") == 1
    assert verdict.data["differing"] == {str(step): [column]}
    assert verdict.rule.startswith("docs/scheduling-rules.md ")


def test_every_kind_of_step_is_among_the_changed_cells() -> None:
    assert {SEEN.run.steps[step].kind for step, _, _ in single_changes()} == {"start", "prefill", "decode", "idle"}
    assert {column for _, column, _ in single_changes()} == set(COLUMNS[1:])


def test_the_columns_of_the_first_step_and_the_numbers_of_others_are_reported() -> None:
    rows = [row._replace(tkv=row.tkv_or_0 + 1, used=9) if row.step in {2, 4, 5} else row for row in ROWS]
    verdict = check_steps(SEEN.run, rows)
    assert verdict.headline == "step 2 differs (decode of 0): tkv 65, expected 66, used 2, expected 9"
    assert verdict.details[-1] == "2 more steps differ: 4, 5"
    assert verdict.rule.startswith('docs/scheduling-rules.md "Decode": tkv grows by 1')


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"tkv": 99, "finished": (0,), "running": ()}, "finished"),
        ({"reserved": 9, "waiting": (2,), "running": (1,)}, "waiting"),
        ({"tkv": 99, "outputs": (0, 1)}, "outputs"),
        ({"tkv": 99, "reserved": 9, "used": 9}, "tkv"),
        ({"reserved": 9, "used": 9}, "reserved"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_cause_of_several_wrong_columns_names_the_rule(changes: dict[str, Any], cause: str) -> None:
    verdict = check_steps(SEEN.run, with_row(4, **changes))
    assert verdict.data["differing"] == {"4": [column for column in COLUMNS if column in changes]}
    assert verdict.rule == rule_for("decode", cause)


def test_of_many_differing_steps_eight_are_named() -> None:
    seen = simulate(a_request(60, 30))
    verdict = check_steps(seen.run, [row._replace(used=present(row.used) + 1) for row in seen.rows])
    assert verdict.details[-1] == "31 more steps differ: 1, 2, 3, 4, 5, 6, 7, 8, …"


def test_eight_more_differing_steps_are_all_named() -> None:
    seen = simulate(a_request(60, 30))
    verdict = check_steps(seen.run, [row._replace(used=present(row.used) + (row.step < 9)) for row in seen.rows])
    assert verdict.details[-1] == "8 more steps differ: 1, 2, 3, 4, 5, 6, 7, 8"


def test_only_the_rows_around_the_first_difference_are_shown() -> None:
    verdict = check_steps(SEEN.run, with_row(4, tkv=99))
    assert [line[1:].split()[0] for line in verdict.details] == ["step", "2", "3", "4", "5", "6"]
    assert len({len(line) for line in verdict.details}) == 1


# --- steps of another kind -------------------------------------------------------------------------------------


def test_a_prefill_instead_of_a_decode_quotes_the_rules_of_admission() -> None:
    late = simulate(a_request(60, 5), a_request(10, 3, join_step=3))
    verdict = check_steps(SEEN.run, [*ROWS[:3], *late.rows[3:]])
    assert verdict.headline == "step 3 is a prefill of 1, expected a decode of 0"
    assert '"Admission"' in verdict.rule
    assert "strict first in, first out" in verdict.rule


def test_a_decode_instead_of_a_prefill_quotes_the_rules_of_admission() -> None:
    late = simulate(a_request(60, 5), a_request(10, 3, join_step=3))
    verdict = check_steps(late.run, [*late.rows[:3], *ROWS[3:]])
    assert verdict.headline == "step 3 is a decode of 0, expected a prefill of 1"
    assert '"Admission"' in verdict.rule
    assert "1≠1 0" not in table_line(verdict, 3)
    assert "0≠1" in table_line(verdict, 3)


def test_a_prefill_that_ends_its_request_is_still_a_prefill() -> None:
    seen = simulate(a_request(60, 3), a_request(10, 1, join_step=2))
    at_once = [row._replace(used=present(row.used) + 1) if row.step == 3 else row for row in seen.rows]
    assert check_steps(seen.run, at_once).headline == "step 3 differs (prefill of 1): used 4, expected 5"


def test_an_idle_step_where_a_decode_was_due_is_no_matter_of_admission() -> None:
    longer = simulate(a_request(60, 6), a_request(10, 3, join_step=2))
    seen = replace(SEEN.run, steps=(*longer.run.steps[:7], SEEN.run.steps[7]))
    verdict = check_steps(seen, longer.rows)
    assert verdict.headline == "step 7 is a step with nothing to run, expected a decode of 0"
    assert "every running sequence gets one token in a decode" in verdict.rule
    verdict = check_steps(longer.run, [*longer.rows[:7], ROWS[7]])
    assert verdict.headline == "step 7 is a decode of 0, expected a step with nothing to run"
    assert '"Admission"' not in verdict.rule


def test_the_kind_of_an_expected_row_follows_from_the_row_before_it() -> None:
    kinds = [expected_kind(row, before) for before, row in zip([None, *ROWS[:-1]], ROWS, strict=True)]
    assert kinds == [step.kind for step in SEEN.run.steps]


# --- too few and too many --------------------------------------------------------------------------------------


def test_a_run_that_ends_too_soon_is_missing_a_step() -> None:
    cut = replace(SEEN.run, steps=SEEN.run.steps[:5])
    verdict = check_steps(cut, ROWS)
    assert verdict.headline == "step 5 is missing: the engine has no more work"
    assert "missing" in table_line(verdict, 5)
    assert "·≠67" in table_line(verdict, 5)
    assert '"Steps"' in verdict.rule
    assert verdict.data["differing"] == {}


def test_a_run_that_lacks_only_the_last_step_is_missing_it() -> None:
    cut = replace(SEEN.run, steps=SEEN.run.steps[:-1])
    verdict = check_steps(cut, ROWS)
    assert verdict.headline == "step 7 is missing: the engine has no more work"
    assert "one more step runs" in verdict.rule


def test_a_run_that_goes_on_after_the_table_has_a_step_too_many() -> None:
    verdict = check_steps(SEEN.run, ROWS[:-1])
    assert verdict.headline == "step 7 is unexpected: the table ends at step 6"
    assert table_line(verdict, 7).split()[2] == "idle"
    assert "one more step runs" in verdict.rule


def test_a_difference_before_the_missing_step_is_reported_first() -> None:
    cut = replace(SEEN.run, steps=SEEN.run.steps[:5])
    assert check_steps(cut, with_row(2, tkv=99)).headline.startswith("step 2 differs")


def test_an_engine_that_failed_midway_is_reported_with_its_reason() -> None:
    run = Run(SEEN.run.steps[:4], SEEN.run.tokens, "the engine failed in step 4: RuntimeError: no room")
    verdict = check_steps(run, ROWS)
    assert verdict.headline == "the engine failed in step 4: RuntimeError: no room"
    assert verdict.rule == "", "no rule is broken by an engine that crashes"


def test_an_engine_that_failed_after_the_last_row_has_not_passed() -> None:
    run = replace(SEEN.run, unfinished="the requests did not finish in 30 steps, but a correct engine needs fewer")
    verdict = check_steps(run, ROWS)
    assert not verdict.passed
    assert verdict.headline == "the requests did not finish in 30 steps, but a correct engine needs fewer"


# --- blocks, and tables that begin later -----------------------------------------------------------------------


def without_blocks() -> Run:
    return replace(SEEN.run, steps=tuple(step._replace(reserved=None, used=None) for step in SEEN.run.steps))


def test_blocks_are_not_compared_where_the_driver_cannot_see_them() -> None:
    assert check_steps(without_blocks(), ROWS, blocks=False).passed
    assert check_steps(SEEN.run, with_row(4, used=99), blocks=False).passed
    assert not check_steps(SEEN.run, with_row(4, used=99)).passed


def test_a_cell_that_was_not_observed_is_not_compared() -> None:
    steps = [step._replace(tkv=None) if step.step == 4 else step for step in SEEN.run.steps]
    run = replace(SEEN.run, steps=tuple(steps))
    assert check_steps(run, ROWS).passed
    assert check_steps(run, with_row(4, tkv=99)).passed
    other = check_steps(run, with_row(4, tkv=99, used=99))
    assert other.headline == "step 4 differs (decode of 1 0): used 4, expected 99"
    assert "?" in "".join(other.details)


def test_other_columns_are_compared_where_the_driver_cannot_see_blocks() -> None:
    verdict = check_steps(without_blocks(), with_row(4, tkv=99, used=99), blocks=False)
    assert verdict.headline == "step 4 differs (decode of 1 0): tkv 66, expected 99"
    assert "reserved" not in verdict.details[0]
    assert "used" not in verdict.details[0]


def test_what_happens_before_the_first_row_of_a_table_is_not_compared() -> None:
    late = ROWS[3:]
    assert check_steps(SEEN.run, late).passed
    assert check_steps(doctored(SEEN.run, 2, tkv=99, running=()), late).passed
    assert not check_steps(doctored(SEEN.run, 3, tkv=99), late).passed


@pytest.mark.parametrize("step", range(1, 8))
def test_the_first_row_of_a_table_that_begins_later_keeps_its_kind(step: int) -> None:
    seen = ROWS[step].tkv_or_0
    verdict = check_steps(SEEN.run, with_row(step, tkv=seen + 1)[step:])
    assert verdict.headline == f"step {step} differs ({NAMED[step]}): tkv {seen}, expected {seen + 1}"


def test_a_run_that_ends_before_the_first_row_of_its_table_is_missing_a_step() -> None:
    verdict = check_steps(replace(SEEN.run, steps=SEEN.run.steps[:3]), ROWS[5:])
    assert verdict.headline == "step 3 is missing: the engine has no more work"
    assert "·≠67" in " ".join(verdict.details)


# --- data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seen",
    [SEEN, Simulated(without_blocks(), SEEN.specs, SEEN.requests, SEEN.limits)],
    ids=["with blocks", "without blocks"],
)
def test_the_data_of_a_verdict_survives_a_journey_as_json(seen: Simulated) -> None:
    verdict = check_steps(seen.run, shorten(with_row(4, running=())))
    data = json.loads(json.dumps(verdict.data))
    assert data == verdict.data
    columns = ("step", "tkv", "waiting", "running", "outputs", "finished", "reserved", "used")
    assert data["expected"][0] == dict(zip(columns, [0, 0, [0], [], [], [], 0, 0], strict=True))
    blocks = [4, 4] if seen is SEEN else [None, None]
    row = dict(zip(columns, [3, 65, [], [1, 0], [1], [], *blocks], strict=True))
    assert data["steps"][3] == row | {"kind": "prefill"}
    assert "running" in data["differing"]["4"]
