"""Files of results for comparisons: by suite, case and configuration, of finished runs only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.outcomes import Record, cause
from harness.report.reading import ResultsError, read_run

__all__ = ["Key", "Record", "ResultsError", "Run", "read_results", "reason_of", "steps_of"]

Key = tuple[str, str, str]
"""Suite, case and configuration, which are independent of paths. For other tests: the name, and two empty strings."""


@dataclass(frozen=True)
class Run:
    """A recorded run. ``engine`` describes the engine, ``results`` has a record for each test."""

    path: Path
    engine: str
    header: Record
    results: Mapping[Key, Record]


def read_results(path: Path) -> Run:
    """Read a complete file of results. Raises ResultsError, also for a file that is cut off."""
    run = read_run(path)
    if run.footer is None:
        raise ResultsError(f"{path}: is cut off: the last line is not the footer of a run that was finished")
    return Run(path, run.engine, run.header, {_key(record): record for record in run.results})


def _key(record: Record) -> Key:
    """Return the key of a test. Tests whose process died have the suite only in their name."""
    if "suite" in record and "case" in record:
        return str(record["suite"]), str(record["case"]), str(record.get("configuration", ""))
    file, _, name = str(record["test"]).partition("::")
    case, _, configuration = name.partition("[")
    suite = file.removeprefix("suites/").removesuffix(".yaml")
    return (suite, case, configuration.removesuffix("]")) if name else (str(record["test"]), "", "")


def reason_of(record: Record | None) -> str:
    """Return why a test did not pass, in one line; empty if it passed or did not run."""
    if record is None or record["outcome"] in ("passed", "xpassed"):
        return ""
    return cause(record)


def steps_of(record: Record | None) -> list[Any] | None:
    """Return the observed step table of a test in its short form, rows by column names; None without one."""
    for verdict in (record or {}).get("verdicts", ()):
        if "steps" in verdict.get("data", {}):
            return list(verdict["data"]["steps"])
    return None
