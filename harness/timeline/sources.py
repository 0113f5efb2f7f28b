"""Create time-lines from the data in step tables, results files and traces."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.checks.steps import expected_kind
from harness.runs.plain_decodes import as_expected, from_data
from harness.schedulers.bars import Size
from harness.suites.schema import OPTION_KEYS, columns_of_cells
from harness.timeline.apart import steps_apart
from harness.timeline.model import TimeLine
from harness.timeline.stretches import time_line
from harness.types import StepRow


def of_rows(rows: Iterable[StepRow]) -> Iterator[StepRow]:
    """Yield the rows of an expected step table, with ``kind`` filled in.

    The table may omit plain decodes: decode steps in which no request joins, ends or takes a block.
    """
    before: StepRow | None = None
    got_tokens: set[int] = set()
    for row in rows:
        yield row._replace(kind=expected_kind(row, before, got_tokens))
        got_tokens.update(row.outputs)
        before = row


def with_tables(steps: Iterable[StepRow], tables: Iterable[Sequence[Any]]) -> Iterator[StepRow]:
    """Yield the rows ``steps`` with their block tables filled in. ``tables`` is the result of ``tables_of``."""
    changes: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    for number, request, table in tables:
        changes.setdefault(number, []).append((request, tuple(table)))
    known: dict[int, tuple[int, ...]] = {}
    for step in steps:
        known.update(changes.get(step.step, ()))
        seen = all(request in known for request in step.tabled)
        yield step._replace(block_tables=tuple(known[request] for request in step.tabled) if seen else ())


def tables_of(steps: Iterable[StepRow]) -> list[list[Any]]:
    """Return a list with [step, request, block ids] for each step in which the block table of a request changes."""
    known: dict[int, tuple[int, ...]] = {}
    changes: list[list[Any]] = []
    for step in steps:
        for request, table in zip(step.tabled, step.block_tables, strict=False):
            if known.get(request) != table:
                known[request] = table
                changes.append([step.step, request, list(table)])
    return changes


def of_trace(item: Mapping[str, Any]) -> TimeLine:
    """Return the time-line of ``item``, a workload in the output of ``spyre-cb trace`` (see ``harness/trace.py``)."""
    sizes = [Size(r["prompt_len"], r["max_tokens"], r.get("join_step", 0)) for r in item["requests"]]
    steps = with_tables(of_rows(map(_row, item["steps"])), item.get("tables", ()))
    options: Mapping[str, Any] = next((item[key] for key in OPTION_KEYS if key in item), {})
    return time_line(steps, sizes, options)


def _row(values: Sequence[Any]) -> StepRow:
    """Convert a step in the output of ``spyre-cb trace``. ``values`` are in the order of the scheduler's columns."""
    return from_data(dict(zip(columns_of_cells(values), values, strict=True)))


def of_data(data: Mapping[str, Any]) -> tuple[TimeLine, TimeLine | None] | None:
    """Return (observed time-line, expected time-line) for ``data`` of a verdict. Return None if ``data`` has no steps.

    The keys ``steps`` and ``expected`` of ``data`` have the observed and the expected step table. The expected
    time-line is None if there is no expected table, or if the steps are as expected. The key ``sizes`` has [prompt
    length, max_tokens, join_step] for each request. If the scheduler has options, ``data`` also has the keys
    ``options`` and ``tables`` (the result of ``tables_of``).
    """
    if not data.get("sizes") or not data.get("steps"):
        return None
    sizes, options = [Size(*size) for size in data["sizes"]], data.get("options", {})
    expected = None if as_expected(data) else data.get("expected")
    return (
        time_line(with_tables(map(from_data, data["steps"]), data.get("tables", ())), sizes, options),
        time_line(of_rows(map(from_data, expected)), sizes, options) if expected else None,
    )


def first_of(data: Iterable[Mapping[str, Any]]) -> tuple[TimeLine, TimeLine | None] | None:
    """Return (observed time-line, expected time-line) of the first verdict with steps, None if no verdict has steps.

    ``data`` has ``Verdict.data`` of several verdicts. The expected time-line is None if the verdict has no expected
    table, or if the steps are as expected.
    """
    for each in data:
        try:
            drawn = of_data(each)
        except (TypeError, ValueError):
            continue  # These steps can't be drawn.
        if drawn is not None:
            seen, expected = drawn
            return seen, expected if expected is not None and any(steps_apart(seen, expected)) else None
    return None
