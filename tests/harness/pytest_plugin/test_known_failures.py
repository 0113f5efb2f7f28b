"""Tests of the list of known failures.

A listed failure is expected (xfailed). A listed case that passes or does not exist is an error.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import main
from harness.pytest_plugin.known_failures.entries import Conditions, load_known_failures
from harness.pytest_plugin.known_failures.writing import written
from harness.suites.loader import SuiteError
from tests.helpers.pytest_runs import GOLDEN, GOOD, WRONG, run, write

REASON = "https://example.org/issues/1 tkv is counted wrongly"
LIST = f"known_failures:\n  - case: wrong/five-*\n    when: {{backend: eager}}\n    reason: {REASON}\n"
FACTS = {
    "backend": "eager",
    "model": ("/models/tiny-granite", "tiny-granite"),
    "driver": "reference",
    "tensor_parallel_size": 2,
    "scheduler": "continuous",
    "entry_point": "in-process",
    "cards": 0,
    "simulated": False,
    "vllm": None,
}


NO_ENGINE = """\
from harness.drivers.reference import SimulationDriver
def taken(self, setup):
    raise RuntimeError("the card is taken")
SimulationDriver.open = taken
"""


def outcomes(file: Path) -> dict[str, int]:
    return Counter(json.loads(line).get("outcome", "") for line in file.read_text(encoding="utf-8").splitlines()[1:-1])


@pytest.mark.parametrize("mode", ["--cb-isolation=none", "--forked", "--cb-isolation=engine", "-n2"])
def test_a_listed_failure_is_expected_and_its_reason_is_in_every_report(tmp_path: Path, mode: str) -> None:
    write(tmp_path, mine=GOOD, wrong=WRONG)
    (tmp_path / "known-failures.yaml").write_text(LIST, encoding="utf-8")
    reports = ["--cb-results", "r.jsonl", "--cb-html", "r.html", "--junitxml", "r.xml"]
    done = run(tmp_path, "-p", "no:schemathesis", "--cb-simulate", mode, *reports, ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"failed as expected: 1 test: {REASON}" in done.stdout
    assert outcomes(tmp_path / "r.jsonl") == {"passed": 1, "xfailed": 1}
    assert f"1 failed as expected:</b> {REASON}" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f'message="{REASON}"' in (tmp_path / "r.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", ["--cb-isolation=none", "--forked", "--cb-isolation=engine", "-n1"])
@pytest.mark.parametrize(
    ("suite", "conftest", "message"),
    [
        (WRONG, NO_ENGINE, "the engine did not start: RuntimeError: the card is taken"),
        (GOLDEN, "", "no golden step table"),
    ],
    ids=["no engine", "no golden table"],
)
def test_a_listed_case_of_which_nothing_was_checked_fails(
    tmp_path: Path, suite: str, conftest: str, message: str, mode: str
) -> None:
    write(tmp_path, listed=suite)
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "known-failures.yaml").write_text(LIST.replace("wrong/five-*", '"*"'), encoding="utf-8")
    done = run(tmp_path, "--cb-simulate", mode, "--cb-results", "r.jsonl", ".")
    assert done.returncode == 1, done.stdout + done.stderr
    assert message in done.stdout
    assert outcomes(tmp_path / "r.jsonl") == {"failed": 1}


@pytest.mark.parametrize("mode", ["--cb-isolation=none", "--cb-isolation=engine"])
def test_a_listed_failure_that_passes_fails_where_the_list_is_strict(tmp_path: Path, mode: str) -> None:
    write(tmp_path, mine=GOOD)
    listed = tmp_path / "listed.yaml"
    listed.write_text(LIST.replace("wrong/five-*", "mine/five-lines"), encoding="utf-8")
    arguments = [
        "-p",
        "no:schemathesis",
        "--cb-simulate",
        mode,
        "--cb-known-failures",
        "listed.yaml",
        "--cb-results",
        "r.jsonl",
    ]
    done = run(tmp_path, *arguments, "mine.yaml")
    assert done.returncode == 1
    assert f"the test passed, but listed.yaml:2 lists it as a known failure ({REASON}): remove the entry" in done.stdout
    listed.write_text(listed.read_text(encoding="utf-8") + "    strict: false\n", encoding="utf-8")
    done = run(tmp_path, *arguments, "mine.yaml")
    assert done.returncode == 0, done.stdout
    assert f"passed although listed as a known failure: 1 test: {REASON}" in done.stdout
    assert outcomes(tmp_path / "r.jsonl") == {"xpassed": 1}


def test_an_entry_without_a_case_is_an_error_if_all_cases_are_run(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD, wrong=WRONG)
    (tmp_path / "known-failures.yaml").write_text(LIST.replace("wrong/five-*", "wrong/six"), encoding="utf-8")
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "known-failures.yaml:2:5: the case 'wrong/six' does not exist" in done.stdout + done.stderr
    assert run(tmp_path, "--cb-simulate", "mine.yaml").returncode == 0, "one suite says nothing of the others"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("reason:", "resaon:", ":4:5: known_failures[0].resaon: unknown key — did you mean `reason`?"),
        (
            "backend: eager",
            "backned: eager",
            ":3:12: known_failures[0].when.backned: unknown key — did you mean `backe",
        ),
        ("backend: eager", "backend: egaer", ":3:21: known_failures[0].when.backend: must be 'eager', 'inductor' or"),
        (
            "backend: eager",
            "vllm: 0.27 to 0.30",
            ":3:18: known_failures[0].when.vllm: '0.27 to 0.30' is not a range of versions",
        ),
        ("backend: eager", "cards: -1", ":3:19: known_failures[0].when.cards: "),
        (f"    reason: {REASON}\n", "", ":2:5: known_failures[0]: the key `reason` is missing"),
        (REASON, "TODO", ":4:13: known_failures[0].reason: the reason is a placeholder"),
        (REASON, "it just fails", ":4:13: known_failures[0].reason: the reason has no link"),
        (REASON, "https://example.org/issues/1", ":4:13: known_failures[0].reason: the reason is only a link"),
        ("known_failures:", "failures:", ":1:1: the key `known_failures` is missing"),
        (LIST, "- a list", ":1:1: must be a mapping"),
        ("  - case", " - [case", ":"),
    ],
)
def test_errors_in_a_list_are_reported_with_their_place(tmp_path: Path, before: str, after: str, expected: str) -> None:
    file = tmp_path / f"{abs(hash(after))}.yaml"
    file.write_text(LIST.replace(before, after), encoding="utf-8")
    with pytest.raises(SuiteError) as error:
        load_known_failures(file)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("conditions", "hold"),
    [
        ({}, True),
        ({"backend": ["sendnn", "eager"]}, True),
        ({"backend": "sendnn"}, False),
        ({"model": "tiny-granite"}, True),
        ({"model": "/models/tiny-granite"}, True),
        ({"model": "granite"}, False),
        ({"tensor_parallel_size": [2, 4], "simulated": False, "cards": 0}, True),
        ({"tensor_parallel_size": [2, 4], "simulated": True}, False),
        ({"cards": [1, 2]}, False),
        ({"driver": "vllm"}, False),
        ({"scheduler": "continuous", "entry_point": "in-process"}, True),
        ({"entry_point": "http"}, False),
    ],
)
def test_all_conditions_must_hold(conditions: dict[str, object], hold: bool) -> None:
    assert Conditions.model_validate(conditions).hold(FACTS) is hold


@pytest.mark.parametrize(
    ("installed", "hold"), [("0.26.9", False), ("0.27.1", True), ("0.28.0rc1", True), ("0.30.0", False), (None, False)]
)
def test_a_failure_may_be_one_of_some_versions_of_vllm(installed: str | None, hold: bool) -> None:
    conditions = Conditions.model_validate({"vllm": ">=0.27,<0.30", "backend": "eager"})
    assert conditions.hold(FACTS | {"vllm": installed}) is hold


def test_the_command_keeps_reasons_takes_out_what_passes_and_adds_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, mine=GOOD, wrong=WRONG, worse=WRONG.replace("suite: wrong", "suite: worse"))
    listed = tmp_path / "listed.yaml"
    text = f"# ours\n{LIST}    # soon\n  - case: mine/*\n    reason: {REASON} too\n"
    listed.write_text(text, encoding="utf-8")
    run(tmp_path, "--cb-simulate", "--cb-known-failures", "listed.yaml", "--cb-results", "r.jsonl", ".")
    monkeypatch.chdir(tmp_path)
    assert main(["known-failures", "r.jsonl", "--write", "listed.yaml"]) == 0
    assert "listed.yaml: 1 kept, 1 removed, 1 added" in capsys.readouterr().out
    text = listed.read_text(encoding="utf-8")
    assert text.startswith("# ours\nknown_failures:\n  - case: wrong/five-*\n")
    assert "mine/" not in text
    assert text.count('- case: worse/five-lines\n    when: {backend: eager, model: "tiny-granite"}\n') == 1
    load_known_failures.cache_clear()
    with pytest.raises(SuiteError, match="the reason is a placeholder"):
        load_known_failures(listed)


def test_an_entry_that_stays_does_not_lose_what_it_shares_with_one_that_goes(tmp_path: Path) -> None:
    listed = tmp_path / "listed.yaml"
    entries = (
        f"  - case: mine/*\n    reason: &it {REASON}\n  - case: wrong/*\n    when: {{cards: [1, 2]}}\n    reason: *it\n"
    )
    listed.write_text(f"known_failures:\n{entries}", encoding="utf-8")
    known = {"case": "mine/*", "reason": REASON, "place": "listed.yaml:2"}
    new = written(listed, [{"test": "t", "outcome": "xpassed", "known_failure": known}])
    assert (new.kept, new.removed, new.added) == (1, 1, 0)
    again = tmp_path / "again.yaml"
    again.write_text(new.text, encoding="utf-8")
    (stays,) = load_known_failures(again)
    assert (stays.entry.case, stays.entry.reason, stays.entry.when.cards) == ("wrong/*", REASON, (1, 2))


def test_the_command_prints_a_list_and_refuses_what_is_no_whole_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, wrong=WRONG)
    run(tmp_path, "--cb-simulate", "--cb-results", "r.jsonl", ".")
    results = tmp_path / "r.jsonl"
    assert main(["known-failures", str(results)]) == 0
    assert "known_failures:\n  - case: wrong/five-lines\n" in capsys.readouterr().out
    results.write_text("".join(results.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert main(["known-failures", str(results)]) == 2
    assert "the run was not finished" in capsys.readouterr().err
