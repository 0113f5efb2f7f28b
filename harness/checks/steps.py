"""Compare the step table of a run with the expected table, cell by cell."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.runs.plain_decodes import as_data, as_row, columns_of, lengthen, shorten
from harness.runs.runner import without_plain_decodes
from harness.schedulers import scheduler_of_row
from harness.types import Run, StepRow, Verdict

CONTEXT_ROWS = 2
BLOCK_COLUMNS = ("reserved", "used")


def check_steps(run: Run, expected: Sequence[StepRow], *, blocks: bool = True) -> Verdict:
    """Compare the steps of a run with an expected step table.

    ``expected`` may omit plain decodes: decode steps in which no request joins, ends or takes a block. The observed and
    the expected table are in the verdict's ``data``, both without plain decodes. The columns ``reserved`` and ``used``
    are not compared if ``blocks`` is False, for drivers that can't observe blocks. Cells for which the driver reports
    None are not compared either.
    """
    rows, wanted = without_plain_decodes(run.steps), shorten(expected)
    data = {"steps": steps_as_data(rows), "expected": [as_data(row) for row in wanted], "differing": {}}
    if run.unfinished is None and blocks and shorten(map(as_row, rows)) == wanted:
        return Verdict(True, f"{len(run.steps) - 1} steps as expected", data=data)
    columns = columns_of([*wanted, *map(as_row, rows[:1])])[1:]
    return _compared_row_by_row(run, lengthen(wanted), [c for c in columns if blocks or c not in BLOCK_COLUMNS], data)


def _compared_row_by_row(
    run: Run, wanted: Sequence[StepRow], columns: Sequence[str], data: Mapping[str, Any]
) -> Verdict:
    by_number = {row.step: row for row in wanted}
    rows = [as_row(step) for step in run.steps]
    pairs = [(step, by_number[step.step]) for step in run.steps if step.step in by_number]
    differing = {step.step: names for step, other in pairs if (names := _differences(step, other, columns))}
    problems = list(differing)
    if len(rows) <= wanted[-1].step:
        problems.append(len(rows))
    elif len(rows) > wanted[-1].step + 1:
        problems.append(wanted[-1].step + 1)
    data = {**data, "differing": {str(step): names for step, names in differing.items()}}
    if not problems and run.unfinished is None:
        return Verdict(True, f"{len(rows) - 1} steps as expected", data=data)
    first = min(problems, default=len(rows))
    headline, rule = _explain(first, rows, by_number, differing.get(first, []), run)
    details = list(step_table_lines(run.steps, by_number, first, columns))
    others = [step for step in differing if step != first]
    if others:
        details.append(f"{len(others)} more steps differ: {_short_list(others)}")
    return Verdict(False, headline, tuple(details), rule, data | {"first": first, "blessable": run.unfinished is None})


def expected_kind(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """Return the kind of a step, such as ``prefill``, that its ``row`` of an expected table implies.

    ``before`` is the row of the step before, None for the first row. ``got_tokens`` are the requests that got a token
    in an earlier step.
    """
    return scheduler_of_row(row).kind_of_row(row, before, got_tokens)


def _differences(step: StepRow, wanted: StepRow, columns: Sequence[str]) -> list[str]:
    """Return the names of the ``columns`` in which the observed row ``step`` differs from the expected row ``wanted``.

    A column that the driver could not observe (None in ``step``) is left out.
    """
    return [name for name in columns if getattr(step, name) not in (None, getattr(wanted, name))]


def _explain(
    first: int, rows: Sequence[StepRow], by_number: dict[int, StepRow], names: list[str], run: Run
) -> tuple[str, str]:
    if first >= len(rows):
        if run.unfinished is not None:
            return run.unfinished, ""
        why = "the engine has no more work"
        wanted = by_number.get(first)
        rule = _rule(wanted, _kind_of_row(first, rows, by_number), "outputs") if wanted else ""
        return f"step {first} is missing: {why}", rule
    if first not in by_number:
        what = f"step {first} is unexpected: the table ends at step {max(by_number)}"
        return what, _rule(rows[first], "idle", "outputs")
    row, wanted = rows[first], by_number[first]
    kind = _kind_of_row(first, rows, by_number)
    seen = run.steps[first].kind
    if seen != kind:
        what = f"a {_named(seen, row)}, expected a {_named(kind, wanted)}"
        return f"step {first} is {what}", _rule_for_kinds(wanted, kind, seen)
    cells = ", ".join(f"{n} {cell_text(getattr(row, n))}, expected {cell_text(getattr(wanted, n))}" for n in names)
    return f"step {first} differs ({_named(kind, wanted)}): {cells}", _rule(wanted, kind, _cause(wanted, names))


def _cause(row: StepRow, wrong: Sequence[str]) -> str:
    """Return the column in ``wrong`` that most likely causes the other differences of the step.

    ``row`` is the expected row. ``SchedulerSpec.causes`` of its scheduler lists the columns from cause to effect.
    """
    return next((column for column in scheduler_of_row(row).causes if column in wrong), wrong[0])


def _rule(row: StepRow, kind: str, column: str) -> str:
    return scheduler_of_row(row).rule_for(kind, column)


def _rule_for_kinds(row: StepRow, expected: str, seen: str) -> str:
    return scheduler_of_row(row).rule_for_kinds(expected, seen)


def _kind_of_row(number: int, rows: Sequence[StepRow], by_number: dict[int, StepRow]) -> str:
    got_tokens = {request for row in rows[:number] for request in row.outputs}
    return expected_kind(by_number[number], _row_before(number, rows, by_number), got_tokens)


def _row_before(number: int, rows: Sequence[StepRow], by_number: dict[int, StepRow]) -> StepRow | None:
    """Return the row of step ``number - 1``, None if it is in neither table.

    It is taken from the expected table (``by_number``) or, if that does not have it, from the observed steps, ``rows``.
    """
    return by_number.get(number - 1) or next((row for row in rows if row.step == number - 1), None)


def _named(kind: str, row: StepRow) -> str:
    ids = " ".join(map(str, row.outputs))
    if row.scheduled:
        return f"{kind} step ({', '.join(f'{tokens} of {request}' for request, tokens in row.scheduled)})"
    if kind == "prefill" and not ids:
        return f"chunk of the prefill of {row.running[0]}" if row.running else "chunk of a prefill"
    return {"prefill": f"prefill of {ids}", "decode": f"decode of {ids}", "idle": "step with nothing to run"}.get(
        kind, "state before any step"
    )


def step_table_lines(
    steps: Sequence[StepRow], expected: dict[int, StepRow], first: int, columns: Sequence[str]
) -> list[str]:
    """Return the rows around step ``first``, the first wrong one, as lines of text with aligned columns.

    ``expected`` has the expected rows by step number. A wrong cell is shown as ``observed≠expected``.
    """
    numbers = range(max(0, first - CONTEXT_ROWS), first + CONTEXT_ROWS + 1)
    table = [["", "step", "kind", *columns]]
    for number in numbers:
        wanted = expected.get(number)
        if number < len(steps):
            step, row = steps[number], as_row(steps[number])
            kind = " ".join([step.kind, *map(str, step.outputs)])
            if step.kind == "prefill" and not (step.outputs or step.scheduled):
                kind = " ".join(["chunk", *map(str, step.running[:1])])
            cells = [_cell(step, row, wanted, column) for column in columns]
        elif wanted is not None:
            kind, cells = "missing", [f"·≠{cell_text(getattr(wanted, c))}" for c in columns]
        else:
            continue
        table.append([">" if number == first else "", str(number), kind, *cells])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return ["  ".join(_pad(cell, w, i) for i, (cell, w) in enumerate(zip(line, widths, strict=True))) for line in table]


def _pad(cell: str, width: int, index: int) -> str:
    return cell.rjust(width) if index == 1 else cell.ljust(width)


def _cell(step: StepRow, row: StepRow, wanted: StepRow | None, column: str) -> str:
    """Return the text of the cell in ``column``, ``?`` if the driver could not observe its value.

    ``step`` is the observed row, and ``row`` is the same row with 0 or empty in place of values that were not observed.
    ``wanted`` is the expected row. If it has another value, the text is ``observed≠expected``.
    """
    if wanted is not None and getattr(step, column) is None and getattr(wanted, column) is not None:
        return "?"
    return _compared(getattr(row, column), getattr(wanted, column) if wanted else None)


def _compared(seen: Any, wanted: Any) -> str:
    return cell_text(seen) if wanted is None or seen == wanted else f"{cell_text(seen)}≠{cell_text(wanted)}"


def cell_text(value: Any) -> str:
    """Return the text of a table cell: request numbers separated by spaces, pairs as ``request:number``."""
    if isinstance(value, tuple):
        return " ".join(":".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value) or "-"
    return str(value)


def _short_list(steps: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(map(str, steps[:most]))
    return shown if len(steps) <= most else f"{shown}, …"


def steps_as_data(steps: Sequence[StepRow]) -> list[dict[str, Any]]:
    """Convert steps to the form in which results files contain them: a dict by column names for each step."""
    return [as_data(step) for step in steps]
