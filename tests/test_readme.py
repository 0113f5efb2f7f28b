"""Tests that the numbers and the terminal output in README.md are up to date."""

import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path

import pytest

from harness.cases.failure_text import failure_text
from harness.cases.run import run_test
from harness.drivers.reference import ReferenceDriver
from harness.suites.discovery import NOT_SUITES
from harness.suites.loader import load_suite
from tests.harness.mutations.engine import SCHEDULE_MUTATIONS
from tests.helpers.cases import case_named
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SUITES = [load_suite(p) for p in (ROOT / "suites").rglob("*.yaml") if p.name not in NOT_SUITES]
FAULT = "context one too lax where three run"
CASE = "three-run-and-the-joiner-is-one-token-too-long"


START = {
    "scheduler_steps": "- **Scheduler-step cases**",
    "output": "- **Output cases**",
    "behaviour": "- **Behaviour cases**",
}


@pytest.fixture(scope="module")
def cases() -> Counter[str]:
    counts: Counter[str] = Counter()
    for loaded in SUITES:
        counts[loaded.suite.kind] += len(loaded.suite.cases)
    return counts


@pytest.mark.parametrize("kind", ["scheduler_steps", "output", "behaviour"])
def test_the_cases_are_more_than_it_says(cases: Counter[str], kind: str) -> None:
    line = next(line for line in README.splitlines() if line.startswith(START[kind]))
    (least,) = map(int, re.findall(r"more than (\d+)", line))
    assert least < cases[kind] < 1.5 * least, "say another round number"


def test_the_screen_is_what_that_engine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, test = ReferenceDriver(), case_named(CASE, ReferenceDriver())
    next(fault for fault in SCHEDULE_MUTATIONS if fault.name == FAULT).patch(monkeypatch)
    verdicts = run_test(test, driver.open(test.expanded.setup))
    shown = README.split(f" {CASE}[tiny-granite-eager] _________\n")[1]
    shown = shown.split("\n====")[0]
    place = re.search(r"suites/scheduler_steps/context_edges\.yaml:\d+", shown)
    assert place is not None
    line = int(place[0].rsplit(":")[1])
    loaded = next(loaded for loaded in SUITES if loaded.suite.suite == "scheduler_steps/context_edges")
    assert line == loaded.line_of_case(test.expanded.index)
    bless = f'python -m pytest "suites/scheduler_steps/context_edges.yaml::{CASE}[tiny-granite-eager]" --cb-bless'
    assert failure_text(test.expanded, verdicts, place[0], bless) == shown


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 90


@pytest.mark.parametrize(
    "page", sorted(p for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Links from a page to files must have a target.

    Links to generated pages are checked when the site is built (tests/docs_site/test_site.py).
    """
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "catalogue/", "reference/")):
            assert (page.parent / target).exists(), target


FILE = re.compile(r"(?<![\w/.@-])((?:[\w*]+/)*[\w*]+\.py)\b")
"""The path of a Python file in prose, relative to any folder; in a URL of another project a slash precedes it."""
PROSE = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
PACKAGES = ("engine", "harness", "checkpoints", "spyre_cb")


def test_files_that_are_named_are_there() -> None:
    """Paths of files in pages, comments and docstrings must exist."""
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    folders = ("engine", "harness", "checkpoints", "releases", "spyre_cb", "tests", "benchmarks", "examples", "recipes")
    files = [*(path for folder in folders for path in (ROOT / folder).rglob("*.py")), ROOT / "conftest.py"]
    there = {end for path in files for end in _ends(path.relative_to(ROOT))}
    gone = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in [*PROSE, *sources]
        for name in FILE.findall(page.read_text(encoding="utf-8"))
        if not matching(there, name)
    ]
    assert gone == []


def _ends(path: Path) -> Iterator[str]:
    return ("/".join(path.parts[first:]) for first in range(len(path.parts)))
