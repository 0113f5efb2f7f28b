"""What time-lines are made of: rows of step tables, and steps as results and traces have them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.checks.steps import expected_kind
from harness.schema import StepRow
from harness.timeline.model import Size, TimeLine, time_line
from harness.workload import Step


def of_rows(rows: Iterable[StepRow]) -> Iterator[Step]:
    """Rows of a table, in the short form or complete; what kind of step each is, is told by what it did."""
    before: StepRow | None = None
    for row in rows:
        yield Step(row.step, expected_kind(row, before), *row[1:])
        before = row


def of_lists(rows: Iterable[Sequence[Any]]) -> Iterator[Step]:
    """Steps as results have them: number, kind, tkv, four lists of ids, blocks reserved and used."""
    for number, kind, tkv, waiting, running, outputs, finished, reserved, used in rows:
        sets = tuple(waiting), tuple(running), tuple(outputs), tuple(finished)
        yield Step(number, kind, tkv, *sets, reserved, used)


def of_trace(item: Mapping[str, Any]) -> TimeLine:
    """The time-line of an item that was traced (see ``harness/trace.py``)."""
    sizes = [Size(r["prompt_len"], r["max_tokens"], r.get("join_step", 0)) for r in item["requests"]]
    return time_line(of_rows(map(_row, item["steps"])), sizes)


def _row(values: Sequence[Any]) -> StepRow:
    number, tkv, waiting, running, outputs, finished, reserved, used = values
    return StepRow(number, tkv, tuple(waiting), tuple(running), tuple(outputs), tuple(finished), reserved, used)


def of_data(data: Mapping[str, Any]) -> tuple[TimeLine, TimeLine | None] | None:
    """The observed and, where there is one, the expected run of a verdict's ``data``; None where nothing is to draw,
    as for a chunked run: there is no picture of those.

    ``sizes`` are [prompt length, max tokens, join step] by request; ``steps`` and ``expected`` are step tables.
    """
    if not data.get("sizes") or not data.get("steps") or len(data["steps"][0]) != len(StepRow._fields) + 1:
        return None
    sizes = [Size(*size) for size in data["sizes"]]
    expected = data.get("expected")
    return (
        time_line(of_lists(data["steps"]), sizes),
        time_line(of_rows(map(_row, expected)), sizes) if expected else None,
    )


def first_of(data: Iterable[Mapping[str, Any]]) -> tuple[TimeLine, TimeLine | None] | None:
    """The first of several verdicts' ``data`` that can be drawn; the expected run only where it is another."""
    for each in data:
        try:
            drawn = of_data(each)
        except (TypeError, ValueError):
            continue  # steps of another kind of engine than these pictures are for
        if drawn is not None:
            seen, expected = drawn
            return seen, expected if expected != seen else None
    return None
