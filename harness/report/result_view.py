"""Prepare the results of tests for the HTML page."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile, pairwise
from textwrap import dedent

from markupsafe import Markup

from harness.report.outcomes import SYMBOLS, Record, beginning, duration, shortened
from harness.report.output_view import TEXTS, Output, output_view
from harness.report.picture_view import picture
from harness.report.records import completed
from harness.report.step_view import StepTable, step_table

MAX_TEXT = 8_000
MAX_REASON = 300


@dataclass(frozen=True)
class VerdictView:
    """One check of a test, as the page shows it."""

    status: str
    headline: str
    rule: str
    details: str
    table: StepTable | None
    output: Output | None


@dataclass(frozen=True)
class ResultView:
    """One test, as the page shows it. ``reason`` is one line of text that says why the test did not pass."""

    anchor: str
    test: str
    status: str
    file: str
    suite: str
    kind: str
    case: str
    configuration: str
    requirements: str
    about: str
    described: str
    place: str
    source: str
    source_lines: str
    seconds: str
    text: str
    known_failure: str
    column: str
    markers: tuple[str, ...]
    record: Record

    @cached_property
    def verdicts(self) -> tuple[VerdictView, ...]:
        """Return the checks of the test, in the form in which the page shows them.

        The result is computed at the first access, because for most tests the page shows only the outcome.
        """
        return tuple(_verdict(verdict) for verdict in self.record.get("verdicts", ()))

    @cached_property
    def picture(self) -> Markup:
        """Return the time-line of the test as SVG, "" if it has none. The SVG needs the style sheet of the page."""
        return Markup(picture(self.record, alone=False))

    @property
    def took(self) -> float:
        """Return the duration in seconds, 0 for a test that did not run."""
        return 0.0 if self.status == "skipped" else float(self.record.get("seconds", 0.0))

    @property
    def searchable(self) -> str:
        """Return the text that the filter of the page searches for this test, in addition to the visible text."""
        return " ".join(filter(None, [f"@{self.column}", self.kind, *self.markers, self.place]))

    @property
    def command(self) -> str:
        """Return the command that runs only this test."""
        return f"pytest {shlex.quote(self.test)}"

    @property
    def first_failure(self) -> VerdictView | None:
        return next((v for v in self.verdicts if v.status == "failed"), None) if self.status != "skipped" else None

    @property
    def also_failed(self) -> int:
        """Return the number of failed checks of this test, not counting the first one."""
        return max(0, sum(v.status == "failed" for v in self.verdicts) - 1)

    @cached_property
    def reason(self) -> str:
        if self.status == "passed":
            return ""
        if self.known_failure:
            return self.known_failure
        if self.first_failure:
            return self.first_failure.headline
        return _gist(self.text) or "the result has no reason"

    @property
    def rule(self) -> str:
        return self.first_failure.rule if self.first_failure else ""

    @property
    def at_step(self) -> str:
        table = self.first_failure.table if self.first_failure else None
        return f"step {table.first}" if table and table.first is not None else ""

    @property
    def unexplained(self) -> str:
        """Return pytest's text about the test, such as a traceback.

        Return "" if a failed check explains the outcome, or if the text is the same as ``reason``.
        """
        return "" if self.first_failure or self.text == self.reason else self.text


_EXPECTED = ("xfailed", "xpassed")


def result_views(results: Sequence[Record]) -> list[ResultView]:
    """Convert the records of all tests of a run to views, in the same order. Fill in fields that a record lacks."""
    return [_result_view(i, record) for i, record in enumerate(completed(results))]


def _result_view(index: int, record: Record) -> ResultView:
    outcome = str(record.get("outcome", "error"))
    source = dedent(str(record.get("source", ""))).strip("\n")
    first = int(record.get("source_line", 1))
    return ResultView(
        anchor=f"r{index}",
        test=str(record.get("test", "")),
        status=outcome if outcome in SYMBOLS else "error",
        file=record["file"],
        suite=str(record["suite"]),
        kind=str(record.get("kind", "")),
        case=str(record["case"]),
        configuration=str(record["configuration"]),
        requirements=" ".join(map(str, record.get("requirements", ()))),
        about=str(record.get("about", "")),
        described=str(record.get("described", "")),
        place=str(record.get("place") or record["file"]),
        source=source,
        source_lines="\n".join(str(first + i) for i in range(len(source.splitlines()))),
        seconds=duration(float(record.get("seconds", 0.0))),
        text=shortened(_own_text(record), MAX_TEXT),
        known_failure=str(record.get("known_failure", {}).get("reason", "")) if outcome in _EXPECTED else "",
        column=_column(record),
        markers=tuple(map(str, record.get("markers", ()))),
        record=record,
    )


def _column(record: Record) -> str:
    """Return the name of a test's column in the matrix of requirements: its model, backend and number of processes."""
    size = int(record.get("tensor_parallel_size", 1))
    engine = str(record.get("engine", ""))
    parts = [str(record[name]) for name in ("model", "backend") if record.get(name)]
    return "/".join(
        [*([engine] if engine else []), *(parts or ["no configuration"]), *([f"tp{size}"] if size > 1 else [])]
    )


def _own_text(record: Record) -> str:
    """Return pytest's text about a test, without a leading ``Skipped:`` and without the name of the test.

    The page shows the outcome and the name elsewhere.
    """
    text = str(record.get("text", "")).removeprefix("Skipped: ")
    return text.removeprefix(f"{record.get('test', '')}: ").strip()


def _verdict(verdict: Record) -> VerdictView:
    data = verdict.get("data", {})
    output = output_view(data) if "reference_text" in data else None
    details = [line for line in verdict.get("details", ()) if not (output and line.startswith(TEXTS))]
    if "steps" in data and "differing" in data:
        details = _without_table(details)
    if verdict["passed"] and "error" in data:
        details.append(f"message: {data['error']}")
    return VerdictView(
        status="passed" if verdict["passed"] else "failed",
        headline=str(verdict["headline"]),
        rule=str(verdict.get("rule", "")),
        details=shortened("\n".join(details).strip("\n"), MAX_TEXT),
        table=step_table(data) if "steps" in data else None,
        output=output,
    )


def _without_table(lines: Sequence[str]) -> list[str]:
    """Return the details of a verdict without the excerpt of the step table, because the page shows the whole table."""
    rest = list(dropwhile(lambda line: line.startswith((" ", ">")) and line.strip() != "", lines))
    return [line for line in rest if not re.match(r"\d+ more steps? differ", line)]


def _gist(text: str) -> str:
    """Return the line with the last exception if ``text`` is a traceback of pytest. Otherwise return its first line."""
    lines = text.splitlines()
    raised = [line for before, line in pairwise(["", *lines]) if _is_exception(line) and not _is_exception(before)]
    gist = raised[-1][1:] if raised else next((line for line in lines if line.strip()), "")
    return beginning(gist.strip(), MAX_REASON)


def _is_exception(line: str) -> bool:
    return line.startswith("E  ")
