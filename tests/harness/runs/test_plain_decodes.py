"""Tests of the short form of step tables, which leaves out plain decodes, and of the conversion back.

In a plain decode, all running requests decode, and no request joins, waits longer or ends.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.golden.tables import read_golden
from harness.runs.plain_decodes import as_row, lengthen, plain_decode, shorten
from harness.suites.schema import COLUMNS
from harness.types import StepRow
from tests.helpers.harness import a_request, simulate, two_that_overlap
from tests.helpers.paths import ROOT

GOLDEN = sorted((ROOT / "expectations").rglob("*.yaml"))

ids = st.lists(st.integers(0, 3), max_size=3, unique=True).map(tuple)
counts = st.integers(0, 9)


@st.composite
def tables(draw: st.DrawFn) -> list[StepRow]:
    """Generate step tables. Rows are plain decodes, plain decodes with one changed column, or arbitrary."""
    cells: list[Any] = [draw(column) for column in (counts, ids, ids, ids, ids, counts, counts)]
    rows = [StepRow(draw(counts), *cells)]
    for kind in draw(st.lists(st.sampled_from(["plain", "plain", "almost", "anything"]), max_size=20)):
        row = plain_decode(rows[-1])
        changed = {"plain": [], "almost": [draw(st.sampled_from(COLUMNS[1:]))], "anything": COLUMNS[1:]}[kind]
        for column in changed:
            value: Any = draw(ids if isinstance(getattr(row, column), tuple) else counts)
            row = row._replace(**{column: value})
        rows.append(row)
    return rows


@given(tables())
def test_a_table_that_was_shortened_is_lengthened_to_what_it_was(rows: list[StepRow]) -> None:
    assert lengthen(shorten(rows)) == rows


@given(tables())
def test_a_row_is_left_out_exactly_where_it_is_a_plain_decode_and_not_the_last(rows: list[StepRow]) -> None:
    left_out = [row for before, row in pairwise(rows) if row == plain_decode(before) and row != rows[-1]]
    assert shorten(rows) == [row for row in rows if row not in left_out]


@given(tables())
def test_shortening_what_is_short_changes_nothing(rows: list[StepRow]) -> None:
    assert shorten(shorten(rows)) == shorten(rows)


def test_a_plain_decode_is_one_token_more_for_everybody_and_nothing_else() -> None:
    before = StepRow(4, 64, (2,), (1, 0), (1,), (), 4, 3)
    assert plain_decode(before) == StepRow(5, 65, (2,), (1, 0), (1, 0), (), 4, 3)


@pytest.mark.parametrize("column", COLUMNS[1:])
def test_a_row_that_differs_from_a_plain_decode_in_one_column_stays(column: str) -> None:
    first = StepRow(4, 65, (2,), (1, 0), (1, 0), (), 4, 4)
    plain = plain_decode(first)
    changed: Any = (3,) if isinstance(getattr(plain, column), tuple) else 9
    row = plain._replace(**{column: changed})
    last = plain_decode(row)
    assert shorten([first, plain, plain_decode(plain)]) == [first, plain_decode(plain)]
    assert row in shorten([first, row, last, plain_decode(last)])


def test_the_last_row_stays_although_it_is_a_plain_decode() -> None:
    first = StepRow(1, 64, (), (0,), (0,), (), 2, 2)
    rows = [first, plain_decode(first), plain_decode(plain_decode(first))]
    assert shorten(rows) == [rows[0], rows[-1]]


def test_an_empty_table_and_a_single_row_are_as_short_as_they_get() -> None:
    row = StepRow(0, 0, (0,), (), (), (), 0, 0)
    assert shorten([]) == lengthen([]) == []
    assert shorten([row]) == lengthen([row]) == [row]


def test_idle_steps_are_no_plain_decodes() -> None:
    rows = simulate(a_request(10, 1), a_request(10, 1, join_step=6)).rows
    assert [row.tkv for row in rows] == [0, 64, 0, 0, 0, 0, 0, 64, 0]
    assert shorten(rows) == rows


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_tables_are_in_their_short_form(path: Path) -> None:
    rows = list(read_golden(path, ""))
    full = lengthen(rows)
    assert [row.step for row in full] == list(range(len(full)))
    assert shorten(full) == rows


def test_there_are_golden_tables() -> None:
    assert len(GOLDEN) > 50


def test_columns_an_engine_does_not_have_count_as_0() -> None:
    step = StepRow(3, 66, (2,), (1, 0), (1, 0), (0,), None, None, kind="decode")
    assert as_row(step) == StepRow(3, 66, (2,), (1, 0), (1, 0), (0,), 0, 0)


def test_an_observed_step_becomes_a_row_column_by_column() -> None:
    step = two_that_overlap().run.steps[5]
    assert as_row(step) == StepRow(5, 67, (), (0,), (1, 0), (1,), 4, 4)
