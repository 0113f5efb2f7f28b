"""Tests of the command ``spyre-cb references``, and of runs that need reference outputs."""

import json
from pathlib import Path

import pytest

from harness.cli import main
from tests.helpers.pytest_runs import run, write

OUTPUT = """\
suite: mine
kind: output
cases:
  - id: two-requests
    requests:
      - {prompt: {random_tokens: 9}, max_tokens: 4}
      - {prompt: {text: "Return the number of"}, max_tokens: 6, logprobs: 9}
    expect: {output: reference}
"""
FILE = Path("expectations") / "references" / "tiny-granite" / "mine" / "two-requests.json"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VLLM_SPYRE_TEST_MODEL_LIST", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("SPYRE_CB_CACHE", str(tmp_path / "cache"))
    write(tmp_path, mine=OUTPUT)
    return tmp_path


def test_what_is_missing_is_written_and_then_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["references", "--check", "mine.yaml"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"missing or out of date  {FILE}",
        "1 reference file needed, 1 missing or out of date",
    ]
    assert main(["references", "mine.yaml"]) == 0
    assert f"written  {FILE}: 2 requests" in capsys.readouterr().out
    assert main(["references", "--check", "mine.yaml"]) == 0
    held = json.loads(FILE.read_text(encoding="utf-8"))
    assert [len(sequence["tokens"]) for sequence in held["sequences"]] == [4, 6]
    assert held["sequences"][1]["text"].startswith(" pixels of the")
    written = FILE.stat().st_mtime_ns
    assert main(["references", "mine.yaml"]) == 0
    assert FILE.stat().st_mtime_ns == written


def test_more_tokens_make_a_file_stale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["references", "mine.yaml"]) == 0
    write(folder, mine=OUTPUT.replace("max_tokens: 4", "max_tokens: 5"))
    assert main(["references", "--check", "mine.yaml"]) == 1
    assert main(["references", "mine.yaml"]) == 0
    assert main(["references", "--check", "mine.yaml"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("structure", "says"),
    [
        ('{regex: "("}', 'this regex: at 1(8): invalid regex "(" (in regex): regex parse error: unclosed group'),
        ('{regex: "a(?=b)"}', "look-around, including look-ahead and look-behind, is not supported"),
        ('{grammar: "start: foo"}', 'this grammar: at 1(8): unknown name: "foo"'),
        ("{json: {type: nonsense}}", "this json: Invalid type: nonsense"),
        ('{json: "{"}', "this json: "),
    ],
)
def test_a_structure_that_cannot_be_compiled_is_one_sentence_at_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], structure: str, says: str
) -> None:
    pytest.importorskip("llguidance")
    write(folder, mine=OUTPUT.replace("logprobs: 9", f"structured_outputs: {structure}"))
    assert main(["references", "mine.yaml"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "mine.yaml:7:85: cases[0].requests[1].structured_outputs: llguidance can't compile this " in line
    assert says in line


def test_in_ci_nothing_is_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CI", "true")
    assert main(["references", "mine.yaml"]) == 2
    assert "not written if the environment variable CI is set; use --check" in capsys.readouterr().err
    assert not FILE.exists()


def test_missing_references_are_computed_except_in_ci(folder: Path) -> None:
    assert run(folder, "mine.yaml").returncode == 0
    assert not FILE.exists()
    done = run(folder, "mine.yaml", CI="true")
    assert done.returncode == 1
    assert "no reference output of tiny-granite for request 0, request 1: " in done.stdout
    assert "to compute and write it:  spyre-cb references mine.yaml" in done.stdout
    assert "Traceback" not in done.stdout
    assert run(folder, "mine.yaml", "--cb-references", "compute", CI="true").returncode == 0


def test_a_reference_that_was_edited_is_not_believed(folder: Path) -> None:
    assert main(["references", "mine.yaml"]) == 0
    assert run(folder, "mine.yaml", CI="true").returncode == 0
    FILE.write_text(FILE.read_text(encoding="utf-8").replace("pixels", "voxels"), encoding="utf-8")
    done = run(folder, "mine.yaml", CI="true")
    assert done.returncode == 1
    fix = "to compute and write it:  spyre-cb references mine.yaml"
    damaged = f"{FILE}: this file of reference outputs is damaged or was edited by hand: its digest is wrong; {fix}\n"
    assert damaged in done.stdout
    assert "to write it again" not in done.stdout


def test_a_damaged_file_that_is_not_used_is_named_once_at_the_end(folder: Path) -> None:
    assert main(["references", "mine.yaml"]) == 0
    write(folder, mine=OUTPUT.replace("cases:", "parameters: {max_num_seqs: [1, 2]}\ncases:"))
    FILE.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-16")
    done = run(folder, "mine.yaml")
    assert done.returncode == 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert f"{FILE}: cannot be read: " in line
    assert line.endswith("; to compute and write it:  spyre-cb references mine.yaml")


def test_bless_writes_references_and_removes_stale_ones(folder: Path) -> None:
    stale = FILE.with_name("gone.json")
    done = run(folder, "mine.yaml", "--cb-bless")
    assert done.returncode == 0, done.stdout
    assert f"new      {FILE}: references for 2 requests" in done.stdout
    stale.write_text("{}", encoding="utf-8")
    collected = run(folder, "mine.yaml", "--cb-bless", "--collect-only")
    assert stale.exists(), collected.stdout
    done = run(folder, "mine.yaml", "--cb-bless")
    assert f"removed  {stale.relative_to(folder) if stale.is_absolute() else stale}" in done.stdout
    assert "files changed: 1, unchanged: 1" in done.stdout
    assert not stale.exists()
    assert FILE.exists()


# --- policies and markers of a run -----------------------------------------------------------------------------


def test_a_policy_for_the_run_and_one_that_does_not_exist(folder: Path) -> None:
    done = run(folder, "mine.yaml", "--cb-policy", "golden", "--cb-results", "results.jsonl")
    assert done.returncode == 0, done.stdout
    record = json.loads((folder / "results.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert [verdict["data"].get("policy") for verdict in record["verdicts"]][1:] == ["golden", "golden"]
    done = run(folder, "mine.yaml", "--cb-policy", "goldn")
    assert done.returncode == 4
    assert "invalid choice: 'goldn'" in done.stderr


def test_slow_tests_are_left_out_aloud_unless_they_are_named(folder: Path) -> None:
    write(folder, mine=OUTPUT.replace("kind: output", "kind: output\nmarkers: [slow]"))
    done = run(folder, "mine.yaml")
    assert "deselected: 1 slow test; to run them:  -m slow" in done.stdout
    assert done.returncode == 5
    assert "1 passed" in run(folder, "mine.yaml", "-m", "slow and output").stdout
    assert "1 passed" in run(folder, "mine.yaml", "-m", "slow or output", "-n", "2").stdout
