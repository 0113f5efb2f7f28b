"""Tests of the table of modes: in every mode, every report has every result once, with the same content.

Without isolation, tests run in pytest's own process, which a crash or a hang would end. The mode without isolation
therefore runs without the cases that crash and hang.
"""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers.pytest_runs import GOOD, WRONG, simulated, write

INJECTED = """\
import ctypes, os, time
import pytest
from engine.core import EngineCore
step = EngineCore.step
def injected(self):
    here = os.environ.get("PYTEST_CURRENT_TEST", "")
    if "::crashes" in here:
        ctypes.string_at(0)
    if "::hangs" in here:
        time.sleep(600)
    if "::listed" in here:
        raise ValueError("it is known")
    return step(self)
EngineCore.step = injected
"""
SKIPPED = """\
suite: skipped
kind: output
cases:
  - id: skipped
    requests: [{prompt: {random_tokens: 4}, max_tokens: 2}]
    expect: {output: reference}
"""
KNOWN = """\
known_failures:
  - case: listed/listed
    reason: https://example.org/1 it is known
"""
RUN_ALIKE = {"passes": "passed", "fails": "failed", "skipped": "skipped", "listed": "xfailed", "broken.yaml": "error"}
BREAKING = {"crashes": "failed", "hangs": "failed"}
ALLURE = {"passed": "passed", "failed": "failed", "skipped": "skipped", "xfailed": "skipped", "error": "broken"}
JUNIT = {"passed": [], "failed": ["failure"], "skipped": ["skipped"], "xfailed": ["skipped"], "error": ["error"]}
MODES = {
    "plain": [],
    "forked": ["--forked"],
    "xdist": ["-n2"],
    "both": ["--forked", "-n2"],
    "engine": ["--cb-isolation=engine"],
}


def suites(folder: Path, breaking: bool) -> None:
    def one(name: str, text: str = GOOD) -> str:
        return text.replace("suite: mine", f"suite: {name}").replace("five-lines", name)

    files = {"passes": one("passes"), "listed": one("listed"), "skipped": SKIPPED, "broken": "suite: [\n"}
    files["fails"] = WRONG.replace("suite: wrong", "suite: fails").replace("five-lines", "fails")
    if breaking:
        files |= {name: one(name) for name in BREAKING}
    write(folder, **files)
    (folder / "conftest.py").write_text(INJECTED, encoding="utf-8")
    (folder / "known-failures.yaml").write_text(KNOWN, encoding="utf-8")


@pytest.mark.parametrize("mode", MODES)
def test_every_report_has_every_result_once_in_every_mode(tmp_path: Path, mode: str) -> None:
    breaking = mode != "plain"
    suites(tmp_path, breaking)
    expected = RUN_ALIKE | (BREAKING if breaking else {})
    options = ["--cb-results", "r.jsonl", "--junitxml", "r.xml", "--alluredir", "allure", "--cb-html", "r.html"]
    limit = ["--cb-case-timeout", "4"] if breaking else []
    done = simulated(tmp_path, *MODES[mode], *limit, *options, "--cb-known-failures", "known-failures.yaml", ".")
    assert done.returncode == 1, done.stdout + done.stderr

    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(short(line["test"]) for line in lines[1:-1]) == sorted(expected), done.stdout
    assert {short(line["test"]): line["outcome"] for line in lines[1:-1]} == expected
    assert lines[-1]["counts"] == {outcome: [*expected.values()].count(outcome) for outcome in expected.values()}

    allure = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "allure").glob("*-result.json")]
    assert len(allure) == len(expected)
    assert {short(each["name"]): each["status"] for each in allure} == {k: ALLURE[v] for k, v in expected.items()}
    assert all(each["labels"] and each["historyId"] for each in allure)

    junit = ElementTree.parse(tmp_path / "r.xml").getroot().iter("testcase")
    results = {short(str(case.get("name"))): [child.tag for child in case if child.tag in TAGS] for case in junit}
    results = {"broken.yaml" if name in ("", "broken") else name: tags for name, tags in results.items()}
    assert results == {name: JUNIT[outcome] for name, outcome in expected.items()}

    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for name, outcome in expected.items():
        assert page.count(f'<details class="r {outcome}"') == [*expected.values()].count(outcome), name


TAGS = ("failure", "error", "skipped")


def short(test: str) -> str:
    """Return the id of the case in a test id: ``crashes`` for ``crashes.yaml::crashes[tiny-granite-eager]``."""
    return test.rpartition("::")[2].partition("[")[0]
