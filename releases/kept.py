"""The stored results of each release of the plugins: compressed JSON files in ``releases/results/``.

The file of a release has the engine's description and, for each case that ran, the outcome, the requirements and, if
the case failed, the first line of the failure. It also has the number of cases that did not run, by kind and reason.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.report.reading import read_run

FOLDER = Path(__file__).with_name("results")
MAX_CHARACTERS = 160
"""Maximum number of characters that are kept of the first line of a failure."""
RANKS = ("passed", "failed")
"""The outcomes that are stored. If a case ran in several configurations, its outcome is the last one in this order."""
KINDS = {"scheduler_steps": "steps", "output": "outputs", "behaviour": "behaviour"}
"""The kinds of suites, by the folder with which the names of their cases begin."""
OF_ANOTHER_ENGINE = ("backend ", "scheduler ")
"""Beginnings of the reasons for which tests are skipped that need a card or another scheduler. They are not counted."""


@dataclass(frozen=True)
class CaseResult:
    """The stored result of a case. ``why`` is the first line of the failure, "" if the case passed."""

    outcome: str
    requirements: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Kept:
    """The stored results of a release. ``cases`` has the result of each case, by its name ``suite/case``.

    ``name`` is the release, with the scheduler if the release has two, such as ``vllm-spyre-1.4.3-chunked``. With
    ``+577`` after the version, the bug that pull request 577 fixed was put back into the release.
    ``skipped`` has the number of cases that were skipped in all configurations, by kind and then by reason. Cases for
    other schedulers are not counted.
    """

    name: str
    engine: str
    cases: Mapping[str, CaseResult]
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def outcome(self, case: str) -> str | None:
        """Return the outcome of a case, None if it did not run."""
        result = self.cases.get(case)
        return None if result is None else result.outcome

    def outcomes(self, kind: str) -> Counter[str]:
        """Return how many cases of a kind passed, failed and were skipped."""
        counts = Counter(result.outcome for case, result in self.cases.items() if kind_of(case) == kind)
        counts["skipped"] = sum(self.skipped.get(kind, {}).values())
        return counts

    @property
    def scheduler(self) -> str:
        """Return the scheduler that was tested, ``continuous`` or ``chunked``."""
        return "chunked" if "chunked" in self.name or self.name.startswith("sendnn-inference") else "continuous"

    @property
    def is_whole(self) -> bool:
        """Return whether suites of all kinds ran, and not only step suites or only the cases for a bug."""
        return {kind_of(case) for case in self.cases} == set(KINDS)


def kind_of(case: str) -> str:
    """Return the folder of the suite of a case, which is its kind: ``scheduler_steps``, ``output`` or ``behaviour``."""
    return case.partition("/")[0]


def read_results(files: Iterable[Path], name: str) -> Kept:
    """Read results files of the harness, and return the results to store. All files must be of one engine.

    If a test is in several files, its result in the last file is used. Tests whose engine did not start are left out.
    Raises ValueError if the files are of different engines, and ResultsError if a file is not a results file.
    """
    runs = [read_run(file) for file in files]
    engines = dict.fromkeys(run.engine.removesuffix(", without its model's forward") for run in runs)
    cases: dict[str, CaseResult] = {}
    reasons: dict[str, str] = {}
    for record in {result["test"]: result for run in runs for result in run.results}.values():
        case = f"{record['suite']}/{record['case']}"
        if record["outcome"] in RANKS:
            _add(cases, case, record)
        elif record["outcome"] == "skipped" and (why := _why_skipped(record)):
            reasons[case] = why
    if len(engines) != 1:
        raise ValueError(f"the results are of {len(engines)} engines: {'; '.join(engines) or 'none is named'}")
    skipped = {kind: Counter[str]() for kind in KINDS}
    for case in reasons.keys() - cases.keys():
        skipped[kind_of(case)][reasons[case]] += 1
    counts = {kind: dict(sorted(found.items())) for kind, found in skipped.items() if found}
    return Kept(name, next(iter(engines)), dict(sorted(cases.items())), counts)


def _why_skipped(record: Mapping[str, Any]) -> str:
    """Return the reason for which a test was skipped, with the driver's name removed.

    Return "" if the test was skipped because it needs a card or another scheduler: the page does not list these.
    """
    reason = re.sub(r", which the driver .* does not offer$", "", record.get("text", "").removeprefix("Skipped: "))
    return "" if reason.startswith(OF_ANOTHER_ENGINE) else reason


def _add(cases: dict[str, CaseResult], name: str, record: Mapping[str, Any]) -> None:
    before = cases.get(name)
    if before is not None and RANKS.index(before.outcome) >= RANKS.index(record["outcome"]):
        return
    why = _first_failure(record) if record["outcome"] == "failed" else ""
    cases[name] = CaseResult(record["outcome"], tuple(record["requirements"]), why)


def _first_failure(record: Mapping[str, Any]) -> str:
    """Return the first line of a failure: of a check, or else the exception that the engine or vLLM's API raised."""
    raised = re.findall(r"^E +(.+)$", record.get("text", ""), re.MULTILINE)
    checked = [verdict["headline"] for verdict in record.get("verdicts", ()) if not verdict["passed"]]
    text = next(iter((*checked, *raised, "the test failed")))
    return re.sub(r"\(?[^ (]*/(?=[^/ ]+\.py)", "(", text)[:MAX_CHARACTERS]  # Paths of the machine are left out.


def write(kept: Kept, folder: Path = FOLDER) -> Path:
    """Write results to the file of their release, and return its path. Equal results give equal files."""
    folder.mkdir(exist_ok=True)
    data = {
        "engine": kept.engine,
        "cases": {name: [each.outcome, list(each.requirements), each.why] for name, each in kept.cases.items()},
        "skipped": kept.skipped,
    }
    path = folder / f"{kept.name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(data, indent=0).encode(), mtime=0))
    return path


def read(path: Path) -> Kept:
    """Read a file of kept results."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    cases = {name: CaseResult(outcome, tuple(ids), why) for name, (outcome, ids, why) in data["cases"].items()}
    return Kept(path.name.removesuffix(".json.gz"), data["engine"], cases, data.get("skipped", {}))


def read_all(folder: Path = FOLDER) -> dict[str, Kept]:
    """Return all kept results by name, sorted by plugin, version and scheduler."""
    found = [read(path) for path in folder.glob("*.json.gz")]
    return {kept.name: kept for kept in sorted(found, key=lambda kept: order(kept.name))}


def order(name: str) -> tuple[Any, ...]:
    """Return a key by which names are sorted: vllm-spyre before sendnn-inference, and versions as numbers."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", name.partition("+")[0]))
    return not name.startswith("vllm-spyre"), numbers, "chunked" in name, name
