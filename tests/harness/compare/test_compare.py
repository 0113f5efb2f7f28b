"""Tests of the comparison of two results files, and of the errors for invalid files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.compare import compare_runs, read_results
from harness.compare.changes import Kind
from harness.compare.tables import as_cells, tables_side_by_side
from harness.runs.plain_decodes import as_data
from harness.types import StepRow

STEPS = [
    as_data(StepRow(0, 0, (0,), (), (), (), 0, 0, kind="start")),
    as_data(StepRow(1, 64, (), (0,), (0,), (), 2, 1, kind="prefill")),
]
DECODE = as_data(StepRow(2, 65, (), (0,), (0,), (), 2, 2, kind="decode"))
LATER = [*STEPS, DECODE, as_data(StepRow(5, 68, (), (), (0,), (0,), 2, 2, kind="decode"))]
OTHER = [*STEPS, DECODE, as_data(StepRow(4, 67, (), (), (0,), (0,), 2, 2, kind="decode"))]


def result(case: str, outcome: str, why: str = "", steps: Sequence[Any] = (), **more: Any) -> dict[str, Any]:
    verdict = {"passed": outcome == "passed", "headline": why, "data": {"steps": list(steps)} if steps else {}}
    return {
        "test": f"suites/{case}.yaml::{case}[tiny-eager]",
        "outcome": outcome,
        "suite": "mine",
        "case": case,
        "configuration": "tiny-eager",
        "requirements": ["CB-ADMIT-05"],
        "text": f"Skipped: {why}" if outcome == "skipped" else why,
        "verdicts": [verdict] if outcome in ("passed", "failed") else [],
        **more,
    }


def write(path: Path, engine: str, *results: dict[str, Any]) -> Path:
    lines = [{"header": 2, "engine": engine}, *results, {"footer": 1, "exitstatus": 0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    before = write(
        tmp_path / "before.jsonl",
        "engine A",
        result("fine", "passed"),
        result("breaks", "passed", steps=LATER),
        result("mended", "failed", "step 3 differs"),
        result("wrong-anew", "failed", "step 3 differs"),
        result("wrong-still", "failed", "step 3 differs"),
        result("left-out", "passed"),
        result("dropped", "passed"),
    )
    after = write(
        tmp_path / "after.jsonl",
        "engine B",
        result("fine", "passed"),
        result("breaks", "failed", "step 4 differs", OTHER),
        result("mended", "passed"),
        result("wrong-anew", "failed", "step 7 differs"),
        result("wrong-still", "failed", "step 3 differs"),
        result("left-out", "skipped", "needs async"),
        result("added", "passed"),
    )
    return before, after


def test_every_test_of_both_is_of_one_kind(files: tuple[Path, Path]) -> None:
    comparison = compare_runs(*map(read_results, files))
    assert {change.key[1]: change.kind.value for change in comparison.changes} == {
        "fine": "same",
        "breaks": "worse",
        "mended": "better",
        "wrong-anew": "otherwise",
        "wrong-still": "same",
        "left-out": "gone",
        "dropped": "gone",
        "added": "new",
    }
    assert [change.key[1] for change in comparison.different][:2] == ["breaks", "mended"]
    assert comparison.by_requirement["CB-ADMIT-05"][Kind.GONE] == 2


def test_requirements_without_a_difference_are_left_out(tmp_path: Path) -> None:
    same = result("fine", "passed")
    run = read_results(write(tmp_path / "a.jsonl", "A", same))
    assert compare_runs(run, run).by_requirement == {}


def test_step_tables_stand_side_by_side(files: tuple[Path, Path]) -> None:
    [change] = [c for c in compare_runs(*map(read_results, files)).changes if c.key[1] == "breaks"]
    table = tables_side_by_side(change)
    assert table is not None
    assert table.first == 4
    cells = {line.step: as_cells(line, table.columns) for line in table.lines}
    assert cells[4] == ["4", "decode", "67", "-", "-≠0", "0", "0≠-", "2", "2"]
    assert cells[5][:3] == ["5", "missing", "·≠68"]


def test_the_command_says_it_and_ends_with_one_where_something_is_worse(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out/page.html"
    assert main(["compare", *map(str, files), "--html", str(page)]) == 1
    message = capsys.readouterr().out
    assert "first:   engine A" in message
    assert "worse: passed in the first run, fails in the second\n  mine breaks [tiny-eager]  CB-ADMIT-05" in message
    assert "second: failed: step 4 differs" in message
    assert "-≠0" in message
    assert "second: skipped: needs async" in message
    assert message.rstrip().endswith("8 tests: 1 worse, 1 better, 1 otherwise, 1 new, 2 gone, 2 same")
    text = page.read_text(encoding="utf-8")
    assert "mine breaks [tiny-eager]" in text
    assert "engine B" in text


def test_the_other_way_round_nothing_but_the_mended_one_is_worse(files: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = files
    assert main(["compare", str(after), str(before)]) == 1
    assert main(["compare", str(before), str(before)]) == 0


def test_json_has_every_case(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, files), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["counts"] == {"worse": 1, "better": 1, "otherwise": 1, "new": 1, "gone": 2, "same": 2}
    [breaks] = [case for case in data["cases"] if case["case"] == "breaks"]
    assert (breaks["change"], breaks["second"]["reason"]) == ("worse", "step 4 differs")
    assert breaks["steps"]["first"] == 4


def test_a_page_is_not_written_over_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", "A", result("fine", "passed"))
    before = path.read_text(encoding="utf-8")
    assert main(["compare", str(path), str(path), "--html", str(tmp_path / "." / "a.jsonl")]) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "this file is empty: its run ended before it could write anything"),
        ("hello\n", ":1: this line is not JSON. Is this a results file, written with --cb-results FILE?"),
        ('{"test": "a", "outcome": "passed"}\n', "this is not a results file"),
        ('{"header": 2}\n{"test": "a", "outcome": "passed"}\n', "the results are incomplete: the run was not finished"),
        ('{"header": 2}\n{"footer": 1, "exitstatus": 2}\n', "the results are incomplete: the run was interrupted"),
        ('{"header": 2}\n{"footer": 1, "stopped": "-x"}\n', "the results are incomplete: the run ended early (-x)"),
        ('{"header": 2}\n{"test": "a", "outc', "the results are incomplete"),
        (
            '{"header": 1, "command": "pytest suites"}\n{"footer": 1}\n',
            "this file has results format 1, but format 2 is needed; to create it again:  "
            "pytest suites --cb-results FILE",
        ),
        ('{"header": "x"}\n{"footer": 1}\n', "this file has results format 'x', but format 2 is needed"),
        ('{"header": 2}\n{"test": "a", "outc\n{"footer": 1}\n', ":2: this line is not JSON"),
        ('{"header": 2}\n[1]\n{"footer": 1}\n', ":2: this line is JSON, but not an object, so it is not"),
        ('{"header": 2}\n{"test": "a"}\n{"footer": 1}\n', ":2: outcome: field required"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    good = write(tmp_path / "good.jsonl", "A", result("fine", "passed"))
    assert main(["compare", str(good), str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("spyre-cb: ")
    assert message in err
    assert err.count("\n") == 1


def test_tests_that_are_no_cases_are_compared_by_name(tmp_path: Path) -> None:
    before = write(tmp_path / "a.jsonl", "A", {"test": "tests/t.py::test_x", "outcome": "passed"})
    after = write(tmp_path / "b.jsonl", "B", {"test": "tests/t.py::test_x", "outcome": "error", "text": "boom\nmore"})
    [change] = compare_runs(read_results(before), read_results(after)).changes
    assert (change.name, change.kind) == ("tests/t.py test_x", Kind.WORSE)
