"""Result files of ``pytest --results``, read back: a header, a line a test, and a footer, or the file is cut off."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
Key = tuple[str, str, str]
"""Suite, case and configuration: what a test is called wherever its file lies. Of other tests the name, twice blank."""


class ResultsError(ValueError):
    """A file that is no whole file of results; one sentence."""


@dataclass(frozen=True)
class Run:
    """A run as it was written down: ``engine`` describes what ran, ``results`` is a record a test."""

    path: Path
    engine: str
    header: Record
    results: Mapping[Key, Record]


def read_results(path: Path) -> Run:
    """Read a file of results. Raises ResultsError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    records = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not records or "header" not in records[0]:
        raise ResultsError(f"{path}: is no file of results: it does not begin with their header")
    if "footer" not in records[-1]:
        raise ResultsError(f"{path}: is cut off: the last line is not the footer of a run that was finished")
    results: dict[Key, Record] = {}
    for number, record in enumerate(records[1:-1], 2):
        if not isinstance(record.get("test"), str) or not isinstance(record.get("outcome"), str):
            raise ResultsError(f"{path}:{number}: is not the result of a test")
        results[_key(record)] = record
    return Run(path, str(records[0].get("engine", "unknown engine")), records[0], results)


def _record(path: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ResultsError(f"{path}:{number}: is not JSON: results are written with --results FILE") from None
    if not isinstance(record, dict):
        raise ResultsError(f"{path}:{number}: is not the result of a test")
    return record


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
    for verdict in record.get("verdicts", ()):
        if not verdict["passed"]:
            return str(verdict["headline"])
    lines = [line.strip() for line in str(record.get("text", "")).splitlines() if line.strip()]
    return lines[0].removeprefix("Skipped: ") if lines else ""


def steps_of(record: Record | None) -> list[Any] | None:
    """The observed step table of a test in its short form, a row as (step, kind, then COLUMNS); None without one."""
    for verdict in (record or {}).get("verdicts", ()):
        if "steps" in verdict.get("data", {}):
            return list(verdict["data"]["steps"])
    return None
