"""Read results files for a comparison. Incomplete files are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.outcomes import Record, cause
from harness.report.reading import ResultsError, read_run

__all__ = ["Key", "Record", "ResultsError", "Run", "read_results", "reason_of", "steps_of"]

Key = tuple[str, str, str]
"""Identifies a test in both runs: (suite, case, configuration), or (test name, "", "") for a test not from a suite."""


@dataclass(frozen=True)
class Run:
    """One run, from its results file.

    ``engine`` describes the engine under test, ``header`` is the first record of the file, and ``results`` has the
    record of each test.
    """

    path: Path
    engine: str
    header: Record
    results: Mapping[Key, Record]


def read_results(path: Path) -> Run:
    """Read a results file. Raises ResultsError if the file is invalid, or if its run was not finished."""
    run = read_run(path)
    if run.incomplete:
        raise ResultsError(f"{path}: {run.incomplete}")
    return Run(path, run.engine, run.header, {_key(record): record for record in run.results})


def _key(record: Record) -> Key:
    """Return the key by which a test is found in the results of the other run (``Key``).

    If the process of a test died, the test's record lacks suite and case. They are then taken from the test's name.
    """
    if "suite" in record and "case" in record:
        return str(record["suite"]), str(record["case"]), str(record.get("configuration", ""))
    file, _, name = str(record["test"]).partition("::")
    case, _, configuration = name.partition("[")
    suite = file.removeprefix("suites/").removesuffix(".yaml")
    return (suite, case, configuration.removesuffix("]")) if name else (str(record["test"]), "", "")


def reason_of(record: Record | None) -> str:
    """Return why a test did not pass, in one line. The result is empty if the test passed or did not run."""
    if record is None or record["outcome"] in ("passed", "xpassed"):
        return ""
    return cause(record)


def steps_of(record: Record | None) -> list[Any] | None:
    """Return the observed step table in the record of a test, each row as a dict by column names.

    Plain decodes (decode steps in which no request joins, ends or takes a block) are left out of the table. Return
    None if the test has no step table, or if ``record`` is None.
    """
    for verdict in (record or {}).get("verdicts", ()):
        if "steps" in verdict.get("data", {}):
            return list(verdict["data"]["steps"])
    return None
