"""Update a list of known failures from the results of a run.

Entries whose tests passed are removed, the other entries are kept, and entries for new failures are added.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.pytest_plugin.known_failures.entries import PLACEHOLDER, Listed, load_known_failures
from harness.report.reading import ResultsError, read_run

__all__ = ["ResultsError", "Written", "read_results", "written"]

_NEEDED = {"suite", "case", "backend", "model"}
FAILED = frozenset({"failed", "error", "flaky"})
HEAD = """\
# Tests that are expected to fail; docs/hardware.md describes the format.
known_failures:
"""


@dataclass(frozen=True)
class Written:
    """The new text of the list of known failures, and how many entries were kept, removed and added."""

    text: str
    kept: int
    removed: int
    added: int


def read_results(file: Path) -> Sequence[Mapping[str, Any]]:
    """Return the results of a run from a file written with ``--cb-results``.

    Raises ResultsError if the file is not a results file, or if its run was not finished.
    """
    run = read_run(file)
    if run.incomplete:
        raise ResultsError(f"{file}: {run.incomplete}")
    return run.results


def written(file: Path | None, results: Sequence[Mapping[str, Any]]) -> Written:
    """Return the list of known failures in ``file``, updated with these results.

    ``file`` may be None or may not exist. The new list then has only the failures of the run. Raises SuiteError if the
    list has a mistake.
    """
    listed: tuple[Listed, ...] = ()
    lines: list[str] = []
    if file is not None and file.exists():
        listed, lines = load_known_failures(file), file.read_text(encoding="utf-8").splitlines()
    # A listed test that ran and did not xfail has passed, whether its entry is strict (failed) or not (xpassed).
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
    """Return (case, reason) of the entry that lists the test of ``result``.

    Case and reason identify the entry, because the line of the entry in the file may have changed since the run.
    """
    known = result.get("known_failure", {})
    return str(known.get("case")), str(known.get("reason"))


def _as_written(lines: Sequence[str], each: Listed) -> str:
    """Return the text of an entry, as it is in the file.

    YAML aliases are replaced by their values, because the entry that has the anchor may be removed.
    """
    text = "\n".join(lines[each.line - 1 : each.last_line]) + "\n"
    if not re.search(r":\s+[&*]\w", text):
        return text
    data = each.entry.model_dump(mode="json", exclude_defaults=True)
    written_out = yaml.safe_dump([data], sort_keys=False, allow_unicode=True, width=110)
    return "".join(f"  {line}" for line in written_out.splitlines(keepends=True))


def _entries(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the entries to add to a list of known failures, each as YAML text. ``results`` are those of new failures.

    Results with the same case, backend and model get one entry. Tests that are not from a suite are left out.
    """
    found = {(f"{r['suite']}/{r['case']}", r["backend"], r["model"]) for r in results if r.keys() >= _NEEDED}
    return [
        f"  - case: {case}\n    when: {_conditions(backend, model)}\n    reason: {PLACEHOLDER}\n"
        for case, backend, model in sorted(found)
    ]


def _conditions(label: str, model: str) -> str:
    """Return the conditions of an entry as YAML. ``label`` is a backend such as ``sendnn (simulated)``."""
    backend, _, simulated = label.partition(" ")
    more = ", simulated: true" if simulated else ""
    return f"{{backend: {backend}, model: {json.dumps(model)}{more}}}"
