"""Files of results as they are compared: by suite, case and configuration, and only of runs that were finished."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.outcomes import Record, cause
from harness.report.reading import ResultsError, read_run

__all__ = ["Key", "Record", "ResultsError", "Run", "read_results", "reason_of", "steps_of"]

Key = tuple[str, str, str]
"""Suite, case and configuration: what a test is called wherever its file lies. Of other tests the name, twice blank."""


@dataclass(frozen=True)
class Run:
    """A run as it was written down: ``engine`` describes what ran, ``results`` is a record a test."""

    path: Path
    engine: str
    header: Record
    results: Mapping[Key, Record]


def read_results(path: Path) -> Run:
    """Read a whole file of results. Raises ResultsError, also for one that is cut off."""
    run = read_run(path)
    if run.footer is None:
        raise ResultsError(f"{path}: is cut off: the last line is not the footer of a run that was finished")
    return Run(path, run.engine, run.header, {_key(record): record for record in run.results})


def _key(record: Record) -> Key:
    """Tests that died before they could say their suite have it in their name."""
    if "suite" in record and "case" in record:
        return str(record["suite"]), str(record["case"]), str(record.get("configuration", ""))
    file, _, name = str(record["test"]).partition("::")
    case, _, configuration = name.partition("[")
    suite = file.removeprefix("suites/").removesuffix(".yaml")
    return (suite, case, configuration.removesuffix("]")) if name else (str(record["test"]), "", "")


def reason_of(record: Record | None) -> str:
    """Why a test did not pass, in one line; empty where it did or did not run."""
    if record is None or record["outcome"] in ("passed", "xpassed"):
        return ""
    return cause(record)


def steps_of(record: Record | None) -> list[Any] | None:
    """The observed step table of a test in its short form, rows by the names of columns; None without one."""
    for verdict in (record or {}).get("verdicts", ()):
        if "steps" in verdict.get("data", {}):
            return list(verdict["data"]["steps"])
    return None
