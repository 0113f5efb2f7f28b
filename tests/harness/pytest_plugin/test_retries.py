"""Tests of retries: a test that fails and then passes is reported as flaky.

A flaky test fails the run, unless flaky tests are allowed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pytest_runs import GOOD, WRONG, run, write

FAILS_AT_FIRST = """\
import os, pathlib, signal
from engine.core import EngineCore
step = EngineCore.step
def sometimes(self):
    times = pathlib.Path(os.environ["TIMES"])
    if "mine.yaml" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        times.write_text(times.read_text() + "x" if times.exists() else "x")
        if len(times.read_text()) <= int(os.environ["FAILS"]):
            {fault}
    return step(self)
EngineCore.step = sometimes
"""
RAISES = "raise ValueError('now and then')"


def retried(folder: Path, *arguments: str, fails: int = 1, fault: str = RAISES) -> tuple[Any, dict[str, Any]]:
    """Run a case that fails ``fails`` times before it passes.

    Return the finished process, and the result of the case.
    """
    write(folder, mine=GOOD, other=GOOD.replace("mine", "other"))
    (folder / "conftest.py").write_text(FAILS_AT_FIRST.replace("{fault}", fault), encoding="utf-8")
    options = ["-p", "no:schemathesis", "--cb-simulate", *arguments, "--cb-results", "r.jsonl", "--cb-html", "r.html"]
    done = run(folder, *options, ".", FAILS=str(fails), TIMES=str(folder / "times"))
    results = [json.loads(line) for line in (folder / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    return done, {**results[1], "counts": results[-1]["counts"]}


@pytest.mark.parametrize("mode", [[], ["-n2"], ["--cb-isolation=engine"], ["--forked"]], ids=" ".join)
def test_a_test_that_passes_at_last_is_flaky_and_fails_the_run(tmp_path: Path, mode: list[str]) -> None:
    done, _ = retried(tmp_path, "--cb-retries=2", *mode, "--junitxml=r.xml")
    assert done.returncode == 1
    assert "1 passed, 1 flaky" in done.stdout, done.stdout + done.stderr
    assert "mine.yaml::five-lines[tiny-granite-eager]: passed at attempt 2; the first failure:" in done.stdout
    assert "the engine failed in step 1: ValueError: now and then" in done.stdout
    assert "1 flaky test: the run fails; to let it pass:  --cb-allow-flaky" in done.stdout
    results = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    flaky = next(r for r in results if r.get("outcome") == "flaky")
    assert (flaky["attempts"], flaky["case"]) == (2, "five-lines")
    assert "now and then" in flaky["text"]
    assert results[-1]["counts"] == {"passed": 1, "flaky": 1}
    assert "≈ flaky" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "failed, and passed at attempt 2" in (tmp_path / "r.xml").read_text(encoding="utf-8")


def test_flaky_tests_may_be_allowed_and_are_still_reported(tmp_path: Path) -> None:
    done, result = retried(tmp_path, "--cb-retries=1", "--cb-allow-flaky")
    assert done.returncode == 0
    assert "1 passed, 1 flaky" in done.stdout
    assert result["outcome"] == "flaky"


def test_a_crash_is_tried_again_too(tmp_path: Path) -> None:
    done, result = retried(
        tmp_path, "--cb-retries=1", "--cb-isolation=engine", fault="os.kill(os.getpid(), signal.SIGSEGV)"
    )
    assert "1 passed, 1 flaky" in done.stdout, done.stdout + done.stderr
    assert "died of signal 11 (SIGSEGV)" in result["text"]


def test_what_never_passes_fails_with_its_first_failure(tmp_path: Path) -> None:
    done, result = retried(tmp_path, "--cb-retries=2", fails=99)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert (result["outcome"], result["attempts"]) == ("failed", 3)
    assert (tmp_path / "times").read_text() == "xxx"


def test_a_known_failure_is_not_tried_again(tmp_path: Path) -> None:
    listed = "known_failures:\n  - {case: mine/*, reason: https://example.org/3 fails now and then}\n"
    (tmp_path / "known-failures.yaml").write_text(listed, encoding="utf-8")
    done, _ = retried(tmp_path, "--cb-retries=2", fails=99)
    assert "1 passed, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "times").read_text() == "x"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cb-retries=-1"], "argument --cb-retries: must be a whole number of at least 0, not '-1'"),
        (["--cb-allow-flaky"], "--cb-allow-flaky needs --cb-retries: without retries no test is flaky"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path: Path, arguments: list[str], expected: str) -> None:
    write(tmp_path, wrong=WRONG)
    done = run(tmp_path, "--cb-simulate", *arguments, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert expected in done.stdout + done.stderr
