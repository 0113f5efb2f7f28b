"""Read results files, which ``pytest --cb-results FILE`` writes.

A results file has a line of JSON for the header, for each test and for the footer. If the run was not finished, the
last line is not a footer but a list of the tests that were running.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.report.lines import FooterLine, HeaderLine, Line, ResultLine, RunningLine, problem_of
from harness.report.outcomes import Record, named
from harness.report.plan import Missing, Plan, plan_from
from harness.utils.files import read_open
from harness.utils.text import plural

FORMAT = 2
"""Version of the format of results files that this module reads. Version 1 had step tables without column names."""


class ResultsError(ValueError):
    """A file is not a results file, or has another version of the format. The message is one sentence."""


class EmptyResultsError(ResultsError):
    """A file is empty, for example because the disk was full."""


INTERRUPTED = (2, 3)
"""Exit statuses of pytest after which results are missing: 2 is an interrupted run, 3 an internal error of pytest."""


class NotFiniteError(ValueError):
    """A file has NaN or Infinity, which Python's ``json`` module accepts but JSON does not allow."""


@dataclass(frozen=True)
class Recorded:
    """A run, as recorded in its results file. ``footer`` is None if the run was not finished.

    ``running`` are the tests that were running when the run ended, in the order of their start. ``missing`` are tests
    without a result, as returned by ``missing_tests``.
    """

    path: Path
    header: Record
    results: tuple[Record, ...]
    footer: Record | None
    running: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def part(self) -> int:
        """Return the number of the part of the tests that this run has (``--cb-shard``), counted from 1."""
        shard = self.header.get("shard")
        return int(shard["part"]) if shard else 1

    @cached_property
    def plan(self) -> Plan | None:
        """Return which tests each part of the run should run, None if the run ended before its tests were collected."""
        return plan_from(self.header)

    @cached_property
    def lacking(self) -> tuple[str, ...]:
        """Return the tests that this run should have run (``plan``) but that have no result, in the plan's order."""
        return self.without_result(self.plan.parts[self.part - 1]) if self.plan else ()

    def without_result(self, tests: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``tests`` that have no result in this run."""
        have_one = {str(result["test"]) for result in self.results}
        return tuple(test for test in tests if test not in have_one)

    @property
    def engine(self) -> str:
        return str(self.header.get("engine", "unknown engine"))

    @property
    def incomplete(self) -> str:
        """Return a sentence that says why results are missing, "" if no results are missing."""
        if self.footer is None:
            return f"the results are incomplete: the run was not finished, or is still running{named(self.running)}"
        if stopped := self.footer.get("stopped"):
            return f"the results are incomplete: the run ended early ({stopped})"
        if self.footer.get("exitstatus", 0) in INTERRUPTED:
            return f"the results are incomplete: the run was interrupted{named(self.running)}"
        if lacking := self.lacking:
            return f"the results are incomplete: {plural(len(lacking), 'test')} without a result, such as {lacking[0]}"
        return ""


def read_run(path: Path) -> Recorded:
    """Read a results file. The run need not be finished.

    Raises ResultsError if the file can't be read, or if it is not a results file of this version.
    """
    try:
        lines = read_open(path).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ResultsError(
            f"{path}: this file is not UTF-8 text (byte {error.start}), so it is not a results file"
        ) from error
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise EmptyResultsError(f"{path}: this file is empty: its run ended before it could write anything")
    records = [_record(path, number, line, number == numbered[-1][0]) for number, line in numbered]
    whole = [record for record in records if record is not None]
    if not whole or "header" not in whole[0]:
        raise ResultsError(
            f"{path}: this is not a results file, as written by pytest --cb-results FILE: the header is missing"
        )
    if type(version := whole[0]["header"]) is not int or version != FORMAT:
        again = f"{whole[0].get('command', 'pytest')} --cb-results FILE"
        what = f"this file has results format {version!r}, but format {FORMAT} is needed; to create it again:  {again}"
        raise ResultsError(f"{path}: {what}")
    _refuse_wrong_order(path, [number for number, _ in numbered], records)
    footer = whole[-1] if "footer" in whole[-1] else None
    for (number, _), record in zip(numbered, whole, strict=False):
        if problem := problem_of(record, _form(record, whole)):
            raise ResultsError(f"{path}:{number}: {problem}")
    last = whole[-1] if whole[-1].keys() & {"running", "footer"} else {}
    results = whole[1:-1] if last else whole[1:]
    return Recorded(path, whole[0], tuple(results), footer, tuple(last.get("running", ())))


def _refuse_wrong_order(path: Path, numbers: Sequence[int], records: Sequence[Record | None]) -> None:
    """Raise ResultsError for a second header, and for a line after the footer or after the list of running tests.

    ``numbers`` has the line number of each of ``records``. The record of an incomplete line is None.
    """
    ended = ""
    for number, record in zip(numbers, records, strict=True):
        keys = record.keys() if record is not None and "test" not in record else set()
        if "header" in keys and number != numbers[0]:
            what = f"this is a second header (the first is in line {numbers[0]})"
            raise ResultsError(f"{path}:{number}: {what}: give the results of each run in a file of their own")
        if ended:
            raise ResultsError(f"{path}:{number}: nothing may follow {ended}: remove this line, or run the tests again")
        if "footer" in keys:
            ended = f"the footer (line {number})"
        elif keys == {"running"} and records[-1] is not None:  # Else the run was killed while it replaced the list.
            ended = f"the list of the running tests (line {number})"


def _form(record: Record, whole: Sequence[Record]) -> type[Line]:
    if record is whole[0]:
        return HeaderLine
    if record is whole[-1] and "footer" in record:
        return FooterLine
    return RunningLine if record is whole[-1] and "running" in record else ResultLine


def _record(path: Path, number: int, line: str, last: bool) -> Record | None:
    """Return the record in a line of a results file.

    Return None if the line is the last one (``last``) and incomplete, because the run was killed while writing it.
    Raises ResultsError for any other line that is not a JSON object.
    """
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ResultsError(f"{path}:{number}: this line has half of a character (a lone surrogate)") from None
    except NotFiniteError as error:
        raise ResultsError(f"{path}:{number}: the line has {error}, which is not a number in JSON") from None
    except (ValueError, RecursionError):
        if last and number > 1:
            return None
        what = "this line is not JSON. Is this a results file, written with --cb-results FILE?"
        raise ResultsError(f"{path}:{number}: {what}") from None
    if not isinstance(record, dict):
        raise ResultsError(f"{path}:{number}: this line is JSON, but not an object, so it is not the result of a test")
    return record


def _refuse_constant(name: str) -> None:
    raise NotFiniteError(name)
