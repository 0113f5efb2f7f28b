"""Tests of the order in which cases run with isolated engines, and of the output during the run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.pytest_plugin.stages import Stages
from harness.report.run_view import summary_of
from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import GOOD, WRONG, run, write

BOTH = GOOD.replace("cases:", "parameters: {backend: [sendnn, eager]}\ncases:")


def order(folder: Path, *arguments: str) -> list[str]:
    """Run suites with pytest's cache, which has the last run's failures.

    Return the case ids in the order of running.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "--cb-simulate", "--cb-isolation=engine", "-v"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *arguments, "."], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    return re.findall(r"::([\w-]+)\[\S*\] (?:PASSED|FAILED)", done.stdout)


def test_what_failed_last_time_runs_first(tmp_path: Path) -> None:
    names = {name: GOOD.replace("mine", name).replace("five-lines", name) for name in ("aa", "bb")}
    wrong = WRONG.replace("suite: wrong", "suite: cc").replace("five-lines", "cc")
    write(tmp_path, **names, cc=wrong)
    assert order(tmp_path) == ["aa", "bb", "cc"]
    assert order(tmp_path) == ["cc", "aa", "bb"]
    assert order(tmp_path, "-p", "no:cacheprovider") == ["aa", "bb", "cc"]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["", "-n2"])
def test_eager_comes_first_and_its_verdict_with_a_page_as_soon_as_it_is_known(
    tmp_path: Path, workers: list[str]
) -> None:
    write(tmp_path, one=BOTH)
    (tmp_path / "conftest.py").write_text(
        "from harness.drivers.reference import ReferenceDriver\n"
        "from harness.drivers.base import EngineSetup\n"
        "from harness.pytest_plugin.items import CaseItem\n"
        "run = CaseItem.runtest\n"
        "def kept(self):\n"
        "    if 'sendnn' in self.nodeid:\n"
        "        from pathlib import Path\n"
        "        Path('seen.html').write_text(Path('r.html').read_text())\n"
        "    run(self)\n"
        "CaseItem.runtest = kept\n"
    )
    done = run(tmp_path, "--cb-isolation=engine", *workers, "--cb-html", "r.html", ".")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert re.search(r"eager: 1 passed after [\d.]+ m?s\nreport: r.html, incomplete", done.stdout)
    assert "sendnn (simulated): 1 passed after" not in done.stdout
    if not workers:  # another worker may have started the card's case before
        assert "The run is not finished. So far: the only test that ran passed" in (tmp_path / "seen.html").read_text()
    assert "All 2 tests that ran passed" in (tmp_path / "r.html").read_text()


def test_a_page_of_a_run_that_goes_on_is_not_green_yet() -> None:
    passed: Any = SimpleNamespace(status="passed")
    failed: Any = SimpleNamespace(status="failed")
    assert summary_of([passed], {"goes_on": True}).tone == "unknown"
    assert summary_of([passed, failed], {"goes_on": True}).tone == "failed"
    assert summary_of([passed], {}).tone == "passed"


def test_a_stage_is_over_with_its_last_test_and_says_how_all_of_it_ended() -> None:
    outcomes = {"a": "passed", "b": "failed", "c": "passed", "d": "passed"}
    message: list[str] = []
    results: Any = SimpleNamespace(
        result_of=lambda test: {"outcome": outcomes[test]}, show_so_far=lambda line: message.append(line)
    )
    stages = Stages(results)
    stages.plan({"a": "eager", "b": "eager", "c": "eager", "d": "sendnn"})
    stages.plan({"a": "other"})
    for test in "abbc":
        stages.pytest_runtest_logfinish(test)
    assert [re.sub(r"after .*", "", line) for line in message] == ["eager: 1 failed, 2 passed "]
    stages.pytest_runtest_logfinish("d")
    assert len(message) == 1, json.dumps(message)
