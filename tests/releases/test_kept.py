"""Tests of the kept results of releases, of the list of bugs, and of docs/releases.md, which is rendered from both."""

import json
from pathlib import Path
from typing import Any

import pytest

from releases.__main__ import main
from releases.bugs import Bug, BugsError, check, read_bugs
from releases.kept import CaseResult, Kept, order, read, read_all, read_results, write
from releases.page import changes, render
from tests.helpers.paths import ROOT

ENGINE = "vllm-spyre 1.4.3 on vLLM 0.11.0"


def results(folder: Path, *records: dict[str, Any], engine: str = ENGINE) -> Path:
    file = folder / "results.jsonl"
    lines = [{"header": 2, "engine": engine}, *records]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return file


def record(
    case: str, outcome: str, headline: str = "12 steps as expected", *, backend: str = "eager"
) -> dict[str, Any]:
    verdicts = [{"passed": outcome == "passed", "headline": headline}]
    named = {"test": f"s.yaml::{case}[tiny-granite-{backend}]", "suite": "output/s", "case": case}
    return {**named, "outcome": outcome, "seconds": 0.1, "requirements": ["R-01"], "verdicts": verdicts}


def skipped(case: str, reason: str, *, backend: str = "eager") -> dict[str, Any]:
    return {**record(case, "skipped", backend=backend), "verdicts": [], "text": f"Skipped: {reason}"}


def test_the_worst_outcome_of_a_case_is_kept_with_its_failure(tmp_path: Path) -> None:
    wrong = "the engine failed in step 2: AssertionError: no (/somewhere/of/mine/runner.py:9 in execute)"
    file = results(
        tmp_path,
        record("a", "passed"),
        record("b", "failed", wrong),
        record("b", "passed", backend="inductor"),
        {**record("c", "failed"), "verdicts": [], "text": "> raise no\nE   ValueError: no\n\nmodule.py:1: ValueError"},
        {**record("d", "error"), "verdicts": []},
    )
    kept = read_results([file], "vllm-spyre-1.4.3")
    assert kept.engine == ENGINE
    assert kept.cases == {
        "output/s/a": CaseResult("passed", ("R-01",), ""),
        "output/s/b": CaseResult(
            "failed", ("R-01",), "the engine failed in step 2: AssertionError: no (runner.py:9 in execute)"
        ),
        "output/s/c": CaseResult("failed", ("R-01",), "ValueError: no"),
    }
    path = write(kept, tmp_path)
    assert read(path) == kept
    before = path.read_bytes()
    assert write(kept, tmp_path).read_bytes() == before


def test_a_later_result_of_a_test_replaces_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    files = [results(tmp_path, record("a", "failed"), record("b", "passed"))]
    files.append(results(tmp_path / "again", record("a", "passed")))
    kept = read_results(files, "vllm-spyre-1.4.3")
    assert {case: result.outcome for case, result in kept.cases.items()} == {
        "output/s/a": "passed",
        "output/s/b": "passed",
    }


def test_skipped_cases_are_counted_by_reason(tmp_path: Path) -> None:
    """A case counts as skipped only if it ran in no configuration. Cases for other schedulers are not counted."""
    lacking = "the case needs http, which the driver vllm does not offer"
    file = results(
        tmp_path,
        record("a", "passed"),
        skipped("a", "backend sendnn needs a Spyre card", backend="sendnn"),
        skipped("b", lacking),
        skipped("b", "backend sendnn needs a Spyre card", backend="sendnn"),
        skipped("c", lacking),
        skipped("d", "scheduler chunked: the driver supports another only"),
    )
    kept = read_results([file], "vllm-spyre-1.4.3")
    assert kept.skipped == {"output": {"the case needs http": 2}}
    assert kept.outcomes("output") == {"passed": 1, "skipped": 2}
    assert read(write(kept, tmp_path)) == kept
    assert not kept.is_whole


def test_results_of_two_engines_are_not_kept_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    files = [results(tmp_path), results(tmp_path / "other", engine="another")]
    assert main(["keep", "vllm-spyre-1.4.3", *map(str, files)]) == 2
    assert capsys.readouterr().err == (f"python -m releases: the results are of 2 engines: {ENGINE}; another\n")


def test_releases_are_sorted_by_their_numbers() -> None:
    names = ["sendnn-inference-2.0.1", "vllm-spyre-1.10.0", "vllm-spyre-1.4.3-chunked", "vllm-spyre-1.4.3"]
    assert sorted(names, key=order) == ["vllm-spyre-1.4.3", "vllm-spyre-1.4.3-chunked", *names[1::-1]]


# --- bugs -------------------------------------------------------------------------------------------------------


def test_every_bug_is_caught_by_its_cases_or_explained() -> None:
    kept, bugs = read_all(), read_bugs()
    assert len({bug.pull for bug in bugs}) == len(bugs)
    for bug in bugs:
        check(bug, kept)


def test_a_case_that_did_not_fail_before_is_an_error() -> None:
    kept = {
        name: Kept(name, "", {"s/a": CaseResult(outcome, (), "")})
        for name, outcome in (("old", "failed"), ("new", "passed"))
    }
    check(Bug(1, "wrong", "new", "old", "new", ("s/a",)), kept)
    with pytest.raises(
        BugsError, match="pull 1: the outcome of s/a in the kept results new must be failed, but is passed"
    ):
        check(Bug(1, "wrong", "new", "new", "new", ("s/a",)), kept)
    with pytest.raises(
        BugsError, match="pull 1: the outcome of s/b in the kept results old must be failed, but is missing"
    ):
        check(Bug(1, "wrong", "new", "old", "new", ("s/b",)), kept)


def test_a_bug_needs_cases_or_a_reason(tmp_path: Path) -> None:
    table = tmp_path / "bugs.yaml"
    table.write_text("- {pull: 1, wrong: w, mended: m}\n", encoding="utf-8")
    with pytest.raises(BugsError, match="pull 1 must have either cases that show the bug, or unseen"):
        read_bugs(table)


# --- the page ---------------------------------------------------------------------------------------------------


def test_the_page_says_in_which_release_cases_broke_and_were_mended() -> None:
    def release(version: str, *outcomes: str) -> Kept:
        cases = {f"output/s/{number}": CaseResult(outcome, ("R-01",), "") for number, outcome in enumerate(outcomes)}
        return Kept(f"vllm-spyre-{version}", "", {name: case for name, case in cases.items() if case.outcome})

    releases = [
        release("1.1", "passed", "failed", "passed"),
        release("1.2", "failed", "failed", ""),  # The third case did not run.
        release("1.3", "passed", "failed", "failed"),
    ]
    assert changes(releases, "R-01") == "1.2 broke 1, 1.3 broke 1, 1.3 fixed 1"
    assert changes(releases, "R-02") == ""


def test_the_page_is_rendered_from_what_is_kept() -> None:
    """docs/releases.md must be up to date. To update it: ``python -m releases page > docs/releases.md``"""
    assert (ROOT / "docs/releases.md").read_text(encoding="utf-8") == render()


def test_what_is_kept_is_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "releases/results").iterdir()) < 400_000
