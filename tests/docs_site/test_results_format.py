"""docs/results-format.md documents exactly the fields that a results file (``--cb-results``) has."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import DOCS, SUITES

OPTIONAL = {"text", "sections", "attempts", "known_failure", "cards"}
"""Fields of a test that only some tests have."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the lines of the results file of a run in which tests pass and tests are skipped."""
    file = tmp_path_factory.mktemp("results") / "results.jsonl"
    suite = SUITES / "scheduler_steps" / "joining.yaml"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--cb-simulate", "--cb-results", str(file), str(suite)]
    done = subprocess.run([sys.executable, *command], cwd=SUITES.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def documented(heading: str) -> set[str]:
    page = Path(DOCS / "results-format.md").read_text(encoding="utf-8")
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_header_and_footer_have_the_documented_fields(lines: list[dict[str, Any]]) -> None:
    assert set(lines[0]) == documented("Header")
    assert set(lines[-1]) == documented("Footer")


def test_tests_have_the_documented_fields(lines: list[dict[str, Any]]) -> None:
    passed = next(line for line in lines if line.get("outcome") == "passed")
    assert set(passed) == documented("Tests") - OPTIONAL
    for line in lines[1:-1]:
        assert set(line) <= documented("Tests")


def test_verdicts_have_the_documented_fields(lines: list[dict[str, Any]]) -> None:
    passed = next(line for line in lines if line.get("outcome") == "passed")
    for verdict in passed["verdicts"]:
        assert set(verdict) == documented("Verdicts")
