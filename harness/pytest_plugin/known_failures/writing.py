"""Update a list of known failures from the results of a run: existing entries are kept, new failures are added."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.pytest_plugin.known_failures.entries import PLACEHOLDER, Listed, load_known_failures

FAILED = frozenset({"failed", "error", "flaky"})
HEAD = """\
# Tests that are expected to fail; docs/hardware.md describes the format.
known_failures:
"""


class ResultsError(ValueError):
    """A file that does not have the results of a whole run. The message is for the user."""


@dataclass(frozen=True)
class Written:
    """The new text of the list, and the numbers of kept, removed (their tests passed) and added entries."""

    text: str
    kept: int
    taken_out: int
    added: int


def read_results(file: Path) -> list[dict[str, Any]]:
    """Return the results of a run, written by ``--cb-results``. Raises ResultsError, also if the file is cut off."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ResultsError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ResultsError(f"{file}: is not a file of results (pytest --cb-results): {error}") from error
    if not lines or not all(isinstance(line, dict) for line in lines) or "header" not in lines[0]:
        raise ResultsError(f"{file}: is not a file of results (pytest --cb-results): it does not begin with a header")
    if "footer" not in lines[-1]:
        raise ResultsError(f"{file}: the run was not finished, so results are missing")
    return lines[1:-1]


def written(file: Path | None, results: Sequence[Mapping[str, Any]]) -> Written:
    """Return the list in ``file``, which may not exist, updated with these results. Raises SuiteError."""
    listed: tuple[Listed, ...] = ()
    lines: list[str] = []
    if file is not None and file.exists():
        listed, lines = load_known_failures(file), file.read_text(encoding="utf-8").splitlines()
    # A listed test that is no longer an expected failure passed, which is a failure of a strict entry.
    ran = {_listed_as(result) for result in results if _is_listed(result) and result["outcome"] != "skipped"}
    failing = {_listed_as(result) for result in results if result["outcome"] == "xfailed"}
    kept = [each for each in listed if (name := (each.entry.case, each.entry.reason)) in failing or name not in ran]
    new = _entries(result for result in results if result["outcome"] in FAILED and not _is_listed(result))
    first = min((each.line for each in listed), default=0)
    text = "\n".join(lines[: first - 1]) + "\n" if listed else HEAD
    text += "".join(_as_written(lines, each) for each in kept) + "".join(new)
    if not kept and not new:
        text = text.replace("known_failures:", "known_failures: []")
    return Written(text, len(kept), len(listed) - len(kept), len(new))


def _is_listed(result: Mapping[str, Any]) -> bool:
    return "known_failure" in result


def _listed_as(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return what identifies the entry of a listed test. Its line number may have changed."""
    known = result.get("known_failure", {})
    return str(known.get("case")), str(known.get("reason"))


def _as_written(lines: Sequence[str], each: Listed) -> str:
    """Return an entry's text. Aliases of anchors in other entries, which may be removed, are expanded."""
    text = "\n".join(lines[each.line - 1 : each.last_line]) + "\n"
    if not re.search(r":\s+[&*]\w", text):
        return text
    data = each.entry.model_dump(mode="json", exclude_defaults=True)
    written_out = yaml.safe_dump([data], sort_keys=False, allow_unicode=True, width=110)
    return "".join(f"  {line}" for line in written_out.splitlines(keepends=True))


def _entries(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one entry for each case, backend and model, without tests that are not from a suite."""
    found = {(f"{r['suite']}/{r['case']}", r["backend"], r["model"]) for r in results if "backend" in r}
    return [
        f"  - case: {case}\n    when: {_conditions(backend, model)}\n    reason: {PLACEHOLDER}\n"
        for case, backend, model in sorted(found)
    ]


def _conditions(label: str, model: str) -> str:
    """Return conditions for a backend label, which is its name, with ``(simulated)`` if there is no card."""
    backend, _, simulated = label.partition(" ")
    more = ", simulated: true" if simulated else ""
    return f"{{backend: {backend}, model: {json.dumps(model)}{more}}}"
