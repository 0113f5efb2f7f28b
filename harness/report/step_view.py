"""Prepare a step table for the HTML page.

Cells that differ show the observed and the expected value. Consecutive plain decodes (decode steps in which no request
joins, ends or takes a block) are shown as one line.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.checks.steps import BLOCK_COLUMNS, cell_text
from harness.runs.plain_decodes import as_expected, as_row, columns_of, from_data, lengthen, plain_decode
from harness.types import StepRow

CONTEXT_ROWS = 2
FEWEST_FOLDED = 2


@dataclass(frozen=True)
class Cell:
    """A cell of a step table. ``seen`` is the observed value, "" if the step was not run.

    ``expected`` is the expected value, None if it equals ``seen`` or if the value is not compared.
    """

    seen: str
    expected: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of a step table.

    ``mark`` is ``differs`` for a step that differs from the expected one, ``missing`` for an expected step that was not
    run, ``extra`` for a step after the end of the expected table, and "" for a step that is as expected. A line that
    stands for several plain decodes (decode steps in which no request joins, ends or takes a block) has no cells.
    Instead, ``folded`` is a text about these steps.
    """

    step: int
    kind: str
    cells: tuple[Cell, ...]
    mark: str = ""
    folded: str = ""


@dataclass(frozen=True)
class StepTable:
    """An observed step table, compared with the expected one.

    ``first`` is the number of the first wrong step, None if no step is wrong.
    """

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    title: str
    first: int | None


@dataclass(frozen=True)
class _Pair:
    """A step as observed (``seen``) and as expected (``wanted``). At most one of the two is None.

    ``mark`` says how the step is wrong, "" if it is as expected, and ``differing`` has the columns that differ.
    ``blind`` is whether the driver can't observe block counts.
    """

    number: int
    seen: StepRow | None
    wanted: StepRow | None
    kind: str
    mark: str
    differing: frozenset[str]
    blind: bool

    @property
    def wrong(self) -> tuple[str, frozenset[str]]:
        """Return (``mark``, names of the columns that differ). ``mark`` is "" if the step is as expected."""
        return self.mark, self.differing

    def continues(self, before: "_Pair") -> bool:
        """Return whether this step and the step ``before`` can be shown as one line.

        This step must be a plain decode: a decode step in which no request joins, ends or takes a block. ``wrong`` must
        be the same for both steps.
        """
        return (
            self.wrong == before.wrong
            and (self.kind == "decode" or self.seen is None)
            and _is_plain(self.seen, before.seen)
            and _is_plain(self.wanted, before.wanted)
        )


def _is_plain(row: StepRow | None, before: StepRow | None) -> bool:
    if row is None or before is None:
        return row is before
    return row == plain_decode(before)


_MARKS = {"differs": "not as expected", "missing": "missing", "extra": "too many"}


def step_table(data: Mapping[str, Any]) -> StepTable:
    """Return the step table to show for a verdict. ``data`` is the field ``data`` of the verdict.

    It has the key ``steps`` and, if the steps were compared with an expected table, the key ``expected``.
    """
    return _step_table(json.dumps(data))


@lru_cache(maxsize=2000)
def _step_table(data: str) -> StepTable:
    """Return the step table for ``data``, the data of a verdict as JSON text.

    The result is cached, because a case often has the same table in all configurations.
    """
    pairs = _pairs(json.loads(data))
    known = columns_of([row for pair in pairs for row in (pair.seen, pair.wanted) if row])
    columns = tuple(c for c in known[1:] if c not in BLOCK_COLUMNS or not all(p.blind for p in pairs if p.seen))
    first = next((pair.number for pair in pairs if pair.mark), None)
    ran = max((pair.number for pair in pairs if pair.seen), default=0)
    marks = Counter(_MARKS[pair.mark] for pair in pairs if pair.mark)
    wrong = ", ".join(f"{count} {mark}" for mark, count in marks.items()) or "as expected"
    title = f"Step table: {ran} {'step' if ran == 1 else 'steps'}, {wrong}"
    return StepTable(columns, tuple(_lines(pairs, columns)), title, first)


def full_rows(steps: Sequence[Mapping[str, Any]]) -> list[StepRow]:
    """Convert an observed step table from the form of results files to rows, with a row for every step.

    Rows that the table omits (decode steps in which no request joins, ends or takes a block) are inserted.
    """
    return [as_row(row) for row in lengthen([from_data(step) for step in steps])]


def _pairs(data: Mapping[str, Any]) -> list[_Pair]:
    seen = {row.step: row for row in lengthen([from_data(row) for row in data["steps"]])}
    # An observed table that equals the expected one is shown without the expected one.
    expected = () if as_expected(data) else data.get("expected", ())
    wanted = {row.step: row for row in lengthen([from_data(row) for row in expected])}
    differing = data.get("differing", {})
    pairs = []
    for number in sorted({*seen, *wanted}):
        row = seen.get(number)
        names = frozenset(differing.get(str(number), ()))
        extra = bool(wanted) and number > max(wanted)
        mark = "missing" if row is None else "extra" if extra else "differs" if names else ""
        blind = row is not None and row.reserved is None and row.used is None
        kind = row.kind if row else ""
        pairs.append(_Pair(number, as_row(row) if row else None, wanted.get(number), kind, mark, names, blind))
    return pairs


def _lines(pairs: Sequence[_Pair], columns: Sequence[str]) -> list[Line]:
    """Return the lines of the table. Consecutive plain decodes are one line, except near the start of a difference.

    A plain decode is a decode step in which no request joins, ends or takes a block.
    """
    shown = _worth_showing(pairs)
    lines: list[Line] = []
    start = 0
    while start < len(pairs):
        end = start
        while end < len(pairs) and end not in shown:
            end += 1
        if end - start >= FEWEST_FOLDED:
            lines.append(_folded(pairs[start:end], columns))
            start = end
        else:
            lines.extend(_line(pair, columns) for pair in pairs[start : end + 1])
            start = end + 1
    return lines


def _worth_showing(pairs: Sequence[_Pair]) -> set[int]:
    turns = {i for i, pair in enumerate(pairs) if i == 0 or not pair.continues(pairs[i - 1])}
    shown = {*turns, len(pairs) - 1}
    for i in turns:
        if pairs[i].mark and (i == 0 or pairs[i].wrong != pairs[i - 1].wrong):
            shown.update(range(i - CONTEXT_ROWS, i + CONTEXT_ROWS + 1))
    return shown


def _folded(pairs: Sequence[_Pair], columns: Sequence[str]) -> Line:
    first, last = pairs[0], pairs[-1]
    begin, end = first.seen or first.wanted, last.seen or last.wanted
    assert begin is not None
    assert end is not None
    what = "plain decodes" if first.mark in ("", "differs") else f"plain decodes {_MARKS[first.mark]}"
    wrong = " ".join(column for column in columns if column in first.differing)
    again = f", {wrong} wrong as above" if wrong else ""
    span = f"steps {first.number} to {last.number}" if begin.tkv is None else f"tkv {begin.tkv} to {end.tkv}"
    text = f"… {len(pairs)} {what}, {span}{again} …"
    return Line(first.number, "", (), first.mark, text)


def _line(pair: _Pair, columns: Sequence[str]) -> Line:
    return Line(pair.number, pair.kind or pair.mark, tuple(_cell(pair, name) for name in columns), pair.mark)


def _cell(pair: _Pair, column: str) -> Cell:
    seen, wanted = _shown(pair.seen, column), _shown(pair.wanted, column)
    if pair.seen is None:
        return Cell("", wanted)
    return Cell(seen, wanted if column in pair.differing else None)


def _shown(row: StepRow | None, column: str) -> str:
    value = getattr(row, column, "")
    return cell_text(value)
