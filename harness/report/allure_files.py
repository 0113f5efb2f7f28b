"""Write Allure results, in the format of Allure 2 and 3, from the records of the tests.

allure-pytest writes the result of a test in the process that runs the test, which does not work for forked tests and
for processes that crash. This module writes all results in the main process (with xdist, the controller).
"""

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checks.steps import cell_text
from harness.report.outcomes import Record, reason
from harness.report.parts import absent
from harness.report.picture_view import picture
from harness.report.reading import Recorded
from harness.report.records import completed
from harness.report.tested import cards_in_words
from harness.runs.plain_decodes import cells_of, columns_of, from_data, lengthen

STATUS: Mapping[str, str] = {
    "passed": "passed",
    "failed": "failed",
    "error": "broken",
    "flaky": "passed",
    "xpassed": "failed",
    "xfailed": "skipped",
    "skipped": "skipped",
}
SEVERITY: Mapping[str, str] = {"output": "critical", "scheduler_steps": "critical", "behaviour": "normal"}
"""Allure's severity of a test, by the kind of its suite. Tests of tokens and of steps are critical."""

EPIC: Mapping[str, str] = {"output": "Outputs", "scheduler_steps": "Scheduler steps", "behaviour": "Behaviour"}


def write_allure(folder: Path, run: Recorded, *, clean: bool = False) -> None:
    """Write a result file for each test to ``folder``. With ``clean``, empty the folder first.

    Raises OSError if a file can't be written or removed.
    """
    if clean and folder.is_dir():
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for record in completed([*run.results, *absent(run)]):
        _Writer(folder, run).write(record)
    (folder / "environment.properties").write_text("".join(_environment(run)), encoding="utf-8")


class _Writer:
    """Writes the result files of a run, and their attachments."""

    def __init__(self, folder: Path, run: Recorded) -> None:
        self._folder = folder
        self._began = float(run.header.get("began", 0.0))

    def write(self, record: Record) -> None:
        uid = str(uuid.uuid4())
        start = int(1000 * float(record.get("start", self._began)))
        outcome = str(record["outcome"])
        name = ":".join(filter(None, [str(record["suite"]), str(record["case"])]))
        parameters = list(_parameters(record))
        result = {
            "uuid": uid,
            "historyId": _digest([name, *(f"{p['name']}={p['value']}" for p in parameters)]),
            "testCaseId": _digest([name]),
            "fullName": name,
            "name": str(record["case"]),
            "description": _description(record),
            "status": STATUS.get(outcome, "broken"),
            "statusDetails": {
                "message": reason(record) if outcome != "passed" else "",
                "trace": str(record.get("text", "")),
                "flaky": outcome == "flaky",
                "known": outcome in ("xfailed", "xpassed"),
            },
            "stage": "finished",
            "start": start,
            "stop": start + int(1000 * float(record.get("seconds", 0.0))),
            "labels": [{"name": key, "value": value} for key, value in _labels(record)],
            "parameters": parameters,
            "links": list(_links(record)),
            "steps": [self._step(verdict, start) for verdict in record.get("verdicts", ())],
            "attachments": list(self._attachments(record)),
        }
        text = json.dumps(result, ensure_ascii=True, indent=1)
        (self._folder / f"{uid}-result.json").write_text(text, encoding="utf-8")

    def _step(self, verdict: Mapping[str, Any], start: int) -> dict[str, Any]:
        """Convert a verdict to a step of an Allure result. Write its details, if it has any, to an attachment."""
        attached = []
        if verdict.get("details"):
            name = "tokens" if "reference_text" in verdict.get("data", {}) else "details"
            attached.append(self._attach(name, "\n".join(map(str, verdict["details"])), "text/plain", "txt"))
        return {
            "name": str(verdict["headline"]),
            "status": "passed" if verdict["passed"] else "failed",
            "stage": "finished",
            "start": start,
            "stop": start,
            "statusDetails": {"message": str(verdict.get("rule", ""))} if not verdict["passed"] else {},
            "attachments": attached,
            "parameters": [],
            "steps": [],
        }

    def _attachments(self, record: Record) -> Iterator[dict[str, str]]:
        for verdict in record.get("verdicts", ()):
            data = verdict.get("data", {})
            if data.get("steps"):
                yield self._attach("step table", _csv(data["steps"]), "text/csv", "csv")
        drawn = picture(record, alone=True)
        if drawn:
            yield self._attach("time-line", drawn, "image/svg+xml", "svg")
        if record.get("source"):
            yield self._attach("case", str(record["source"]), "text/plain", "yaml")
        for name, text in record.get("sections", ()):
            yield self._attach(str(name), str(text), "text/plain", "txt")

    def _attach(self, name: str, text: str, kind: str, suffix: str) -> dict[str, str]:
        source = f"{uuid.uuid4()}-attachment.{suffix}"
        (self._folder / source).write_text(text, encoding="utf-8", errors="backslashreplace")
        return {"name": name, "source": source, "type": kind}


def _description(record: Record) -> str:
    """Return the description of a test as Markdown. Each line ends with two spaces, which is Markdown's line break."""
    described = str(record.get("described", "")).replace("\n", "  \n")
    return "\n\n".join(filter(None, [str(record.get("about", "")), described]))


def _labels(record: Record) -> Iterator[tuple[str, str]]:
    kind, suite = str(record.get("kind", "")), str(record["suite"])
    yield "epic", EPIC.get(kind, "Tests")
    yield "feature", suite
    for requirement in record.get("requirements", ()) or ("no requirement",):
        yield "story", str(requirement)
    yield "severity", SEVERITY.get(kind, "normal")
    yield "parentSuite", kind or "tests"
    yield "suite", suite
    yield "subSuite", str(record.get("configuration") or "no configuration")
    for marker in record.get("markers", ()):
        yield "tag", str(marker)
    yield "framework", "pytest"
    yield "language", "python"


def _parameters(record: Record) -> Iterator[dict[str, str]]:
    """Yield the parameters of a test. They are the same in every run, because Allure finds a test's history by them."""
    for name in ("configuration", "model", "backend", "tensor_parallel_size", "engine"):
        if record.get(name):
            yield {"name": name, "value": str(record[name])}


def _links(record: Record) -> Iterator[dict[str, str]]:
    reason_given = str(record.get("known_failure", {}).get("reason", ""))
    for word in reason_given.split():
        if word.startswith(("http://", "https://")):
            yield {"type": "issue", "name": "known failure", "url": word}


def _csv(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return a step table as CSV, with a row for every step. Values that were not observed are empty.

    ``steps`` may omit plain decodes: decode steps in which no request joins, ends or takes a block.
    """
    rows = lengthen([from_data(step) for step in steps])
    first, *others = columns_of(rows)
    lines = [",".join([str(row.step), row.kind, *map(_text, cells_of(row, others))]) for row in rows]
    return "\n".join([",".join([first, "kind", *others]), *lines, ""])


def _text(value: Any) -> str:
    return "" if value in (None, ()) else cell_text(value)


def _environment(run: Recorded) -> Iterator[str]:
    about = {**run.header, **(run.footer or {})}
    for name in ("engine", "models", "backends", "compiled", "python", "revision", "command"):
        value = about.get(name)
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{name}={' '.join(text.split())}\n"
    for model, digest in about.get("digests", {}).items():
        yield f"digest.{_key(model)}={digest}\n"
    if cards := cards_in_words(about):
        yield f"cards={cards}\n"


def _key(text: str) -> str:
    """Return ``text`` with hyphens in place of characters that a key in a Java properties file can't have."""
    return re.sub(r"[^A-Za-z0-9._/@-]+", "-", text)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.md5("\0".join(parts).encode("utf-8", "backslashreplace"), usedforsecurity=False).hexdigest()
