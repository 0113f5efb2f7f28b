"""The results of runs that are kept of each release: compressed JSON in ``releases/results/``, one file a release.

A file has the engine's description, and for each case that ran its outcome, its requirements and, if it failed, the
first line of the failure.
"""

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.reading import read_run

FOLDER = Path(__file__).with_name("results")
MAX_CHARACTERS = 160
"""Maximum number of characters that are kept of the first line of a failure."""
RANKS = ("passed", "failed")
"""Outcomes that are kept, the one that counts more if a case ran with several configurations last."""


@dataclass(frozen=True)
class CaseResult:
    """What is kept of a case. ``why`` is the first line of its failure, "" if it passed."""

    outcome: str
    requirements: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Kept:
    """The kept results of a release. ``cases`` are named ``suite/case``.

    ``name`` is the release, with the scheduler if the release has two, such as ``vllm-spyre-1.4.3-chunked``. With
    ``+577`` after the version, the fault that pull request 577 mended was put back into the release.
    """

    name: str
    engine: str
    cases: Mapping[str, CaseResult]

    def outcome(self, case: str) -> str | None:
        """Return the outcome of a case, None if it did not run."""
        result = self.cases.get(case)
        return None if result is None else result.outcome


def read_results(files: Iterable[Path], name: str) -> Kept:
    """Return what is kept of results files of the harness. All files must be of one engine.

    Cases without a verdict are left out: the engine did not start, or the process of the test was killed.
    Raises ValueError if a file is of another engine, and ResultsError if it is not a results file.
    """
    runs = [read_run(file) for file in files]
    engines = dict.fromkeys(run.engine.removesuffix(", without its model's forward") for run in runs)
    cases: dict[str, CaseResult] = {}
    for record in (result for run in runs for result in run.results):
        if record["outcome"] in RANKS and record.get("verdicts"):
            _add(cases, f"{record['suite']}/{record['case']}", record)
    if len(engines) != 1:
        raise ValueError(f"the results are of {len(engines)} engines: {'; '.join(engines) or 'none is named'}")
    return Kept(name, next(iter(engines)), dict(sorted(cases.items())))


def _add(cases: dict[str, CaseResult], name: str, record: Mapping[str, Any]) -> None:
    before = cases.get(name)
    if before is not None and RANKS.index(before.outcome) >= RANKS.index(record["outcome"]):
        return
    why = _first_failure(record) if record["outcome"] == "failed" else ""
    cases[name] = CaseResult(record["outcome"], tuple(record["requirements"]), why)


def _first_failure(record: Mapping[str, Any]) -> str:
    text = next((verdict["headline"] for verdict in record["verdicts"] if not verdict["passed"]), "the test failed")
    return re.sub(r"\(?/[^ ]*/(?=[^/ ]+\.py)", "(", text)[:MAX_CHARACTERS]  # Paths of the machine are left out.


def write(kept: Kept, folder: Path = FOLDER) -> Path:
    """Write a file of kept results, and return its path. Equal results are equal files."""
    folder.mkdir(exist_ok=True)
    data = {
        "engine": kept.engine,
        "cases": {name: [each.outcome, list(each.requirements), each.why] for name, each in kept.cases.items()},
    }
    path = folder / f"{kept.name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(data, indent=0).encode(), mtime=0))
    return path


def read(path: Path) -> Kept:
    """Read a file of kept results."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    cases = {name: CaseResult(outcome, tuple(ids), why) for name, (outcome, ids, why) in data["cases"].items()}
    return Kept(path.name.removesuffix(".json.gz"), data["engine"], cases)


def read_all(folder: Path = FOLDER) -> dict[str, Kept]:
    """Return all kept results by name, sorted by plugin, version and scheduler."""
    found = [read(path) for path in folder.glob("*.json.gz")]
    return {kept.name: kept for kept in sorted(found, key=lambda kept: order(kept.name))}


def order(name: str) -> tuple[Any, ...]:
    """Return a key by which names are sorted: vllm-spyre before sendnn-inference, and versions as numbers."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", name.partition("+")[0]))
    return not name.startswith("vllm-spyre"), numbers, "chunked" in name, name
