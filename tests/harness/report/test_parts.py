"""Tests of merging the parts of a run: tests without a result are errors, and parts of another run are refused."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli import main
from harness.report.plan import Plan, plan_from
from harness.report.reading import read_run
from tests.helpers.result_records import HEADER, unpacked

Lines = list[dict[str, Any]]
PARTS = (("a.yaml::one[eager]", "a.yaml::two[eager]"), ("b.yaml::three[eager]",), ("b.yaml::four[eager]",))
PLAN = Plan(PARTS, {"a.yaml": "1", "b.yaml": "2"})
FOOTER = {"footer": 1, "counts": {}, "exitstatus": 0, "seconds": 1.0, "requirements": {}}


def part(number: int, plan: Plan = PLAN, outcome: str = "passed", **header: Any) -> Lines:
    """Return the lines of the results file of part ``number``, which finished, and whose tests have this outcome."""
    about = {**HEADER, "shard": {"part": number, "of": len(plan.parts)}, **plan.as_data(), **header}
    results = [{"test": test, "outcome": outcome, "seconds": 1.0} for test in plan.parts[number - 1]]
    return [about, *results, {**FOOTER, "exitstatus": int(outcome != "passed")}]


def report(folder: Path, files: dict[str, Lines | str], *options: str) -> int:
    """Write results files to ``folder``, merge them with ``spyre-cb report``, and return the exit status."""
    for name, lines in files.items():
        text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
    return main(["report", *(str(folder / name) for name in files), *options])


def all_reports(folder: Path) -> list[str]:
    return [
        *("--html", str(folder / "page.html"), "--junit", str(folder / "r.xml"), "--allure", str(folder / "allure")),
        *("--markdown", str(folder / "r.md"), "--results", str(folder / "all.jsonl"), "--verdict"),
    ]


def test_all_parts_are_one_run_that_passes(tmp_path: Path) -> None:
    assert report(tmp_path, {f"{i}": part(i) for i in (3, 1, 2)}, *all_reports(tmp_path)) == 0
    assert "All 4 tests that ran passed" in (tmp_path / "page.html").read_text(encoding="utf-8")
    run = read_run(tmp_path / "all.jsonl")
    assert [result["test"] for result in run.results] == sorted(PLAN.tests)
    assert run.incomplete == ""
    assert plan_from(run.header) == Plan((tuple(sorted(PLAN.tests)),), PLAN.suites)


def test_a_part_that_never_reported_is_red_in_every_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, {"1": part(1), "3": part(3)}, *all_reports(tmp_path)) == 1
    missing = "part 2 of 3 never reported: 1 test without a result"
    said = capsys.readouterr().out
    assert f"{missing}\n  b.yaml::three[eager]\n" in said
    assert "the run fails" not in said, "no test has failed, as far as is known"

    page = unpacked((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert (
        f'<p class="sentence failed">Results are missing: {missing}. So far: all 3 tests that ran passed.</p>' in page
    )
    assert f'<b class="w failed">✗ {missing}</b>' in page
    assert "<li><code>b.yaml::three[eager]</code>" in page

    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "r.xml").iter("testcase")}
    assert cases.keys() == {"one[eager]", "two[eager]", "three[eager]", "four[eager]"}
    [error] = cases["three[eager]"].iter("error")
    assert error.get("message") == f"error: this test has no result: {missing}"
    assert not [*cases["four[eager]"].iter("error")]

    allure = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "allure").glob("*-result.json")]
    assert {each["name"]: each["status"] for each in allure}["three"] == "broken"
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert f"### {missing}\n\n- `b.yaml::three[eager]`\n" in markdown

    merged = read_run(tmp_path / "all.jsonl")
    assert merged.incomplete == f"the results are incomplete: the run ended early ({missing})"
    assert merged.lacking == ("b.yaml::three[eager]",)


def test_a_part_that_was_killed_names_its_tests_and_what_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = [*part(1)[:2], {"running": ["a.yaml::two[eager]"]}]
    assert report(tmp_path, {"1": cut, "2": part(2), "3": part(3)}, *all_reports(tmp_path)) == 1
    said = capsys.readouterr().out
    assert f"part 1 of 3 ({tmp_path / '1'}) was not finished (running: a.yaml::two[eager]): 1 test without" in said
    assert "1 test without a result\n  a.yaml::two[eager]\n" in said


def test_a_finished_part_without_the_result_of_a_test_is_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = part(1)
    del lines[2]
    assert report(tmp_path, {"1": lines, "2": part(2), "3": part(3)}, "--verdict") == 1
    assert "ended before its last test: 1 test without a result\n  a.yaml::two[eager]" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_that_of_a_part_that_never_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert report(tmp_path, {"1": part(1), "2": text, "3": part(3)}, "--verdict") == 1
    said = capsys.readouterr().out
    assert "2: this file is empty: its run ended before it could write anything" in said
    assert "part 2 of 3 never reported: 1 test without a result\n  b.yaml::three[eager]" in said
    assert report(tmp_path, {"2": text}, "--verdict") == 2


def test_parts_that_never_knew_their_tests_are_not_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = {**HEADER, "shard": {"part": 1, "of": 2}}
    assert report(tmp_path, {"1": [header]}, "--html", str(tmp_path / "page.html")) == 1
    said = capsys.readouterr().out
    assert "part 1 of 2" in said
    assert "part 2 of 2 never reported; it is not known which tests it should have run" in said
    assert "part 2 of 2 never reported" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_part_without_tests_need_not_report(tmp_path: Path) -> None:
    plan = Plan((*PARTS, ()), PLAN.suites)
    assert report(tmp_path, {f"{i}": part(i, plan) for i in (1, 2, 3)}, "--verdict") == 0


def test_the_verdict_is_that_of_all_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: dict[str, Lines | str] = {"1": part(1), "2": part(2, outcome="failed"), "3": part(3)}
    assert report(tmp_path, files, "--junit", str(tmp_path / "r.xml")) == 0
    assert report(tmp_path, files, "--verdict") == 1
    assert "the run fails: 1 failed\n" in capsys.readouterr().out
    files["2"] = [*part(2)[:-1], {**FOOTER, "exitstatus": 3}]
    assert report(tmp_path, files, "--verdict") == 1
    assert "the run fails: exit status 3 of pytest\n" in capsys.readouterr().out
    files["2"] = [*part(2, outcome="flaky")[:-1], FOOTER]  # --cb-allow-flaky
    assert report(tmp_path, files, "--verdict") == 0


OTHER = Plan((PARTS[0], ("b.yaml::three[eager]",), ("c.yaml::five[eager]",)), PLAN.suites)
CUT = Plan((PARTS[0][:1], (PARTS[0][1], *PARTS[1]), PARTS[2]), PLAN.suites)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (
            part(2, OTHER),
            "the tests differ: only one of the two runs has b.yaml::four[eager] and 1 more",
        ),
        (part(2, CUT), "of different runs: the same tests are divided into other parts"),
        (
            part(2, Plan(PARTS, {"a.yaml": "3", "b.yaml": "2"})),
            "of different runs: a.yaml was changed between the two runs",
        ),
        (part(2, Plan(PARTS[:2], PLAN.suites)), "of different runs: one run has 3 parts, the other 2"),
        (part(2, engine="vLLM 0.32"), "the engine differs: reference engine 0.1.0 (torch 2.13.0), and vLLM 0.32"),
        (part(2, options={"simulate": "True"}), 'the options differ: null, and {"simulate": "True"}'),
        (part(2, revision="abc+"), "the git revision differs: null, and abc+"),
        (part(1), "are both part 1 of 3; give one of them"),
        (
            [part(4, Plan((*PARTS, ()), {}))[0] | {"shard": {"part": 4, "of": 3}}],
            "`shard.part` must be from 1 to `shard.of` (3), but is 4",
        ),
        (
            [part(2)[0] | {"shard": {"part": 2, "of": 4}}],
            "`plan` must have one item for each part of the run, so 4 items (`shard.of`), but has 3",
        ),
    ],
)
def test_parts_of_different_runs_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: Lines, says: str
) -> None:
    assert report(tmp_path, {"1": part(1), "2": second}, *all_reports(tmp_path)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_merged_runs_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Merge the parts of each of two runs, and show both runs in one page, such as on one card and on two cards."""
    for name, plan in (("one", PLAN), ("two", OTHER)):
        results = str(tmp_path / f"{name}.jsonl")
        assert report(tmp_path, {f"{name}-{i}": part(i, plan) for i in (1, 2, 3)}, "--results", results) == 0
    page = str(tmp_path / "page.html")
    assert main(["report", str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl"), "--html", page, "--verdict"]) == 0


def test_a_merged_run_keeps_what_is_missing_and_an_empty_one_is_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, {"1": part(1), "2": part(2)}, "--results", str(tmp_path / "a.jsonl")) == 1
    (tmp_path / "b.jsonl").touch()
    page = tmp_path / "page.html"
    both = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert main(["report", *both, "--html", str(page), "--results", str(tmp_path / "c.jsonl")]) == 1
    assert "b.jsonl: this file is empty" in read_run(tmp_path / "c.jsonl").incomplete
    text = page.read_text(encoding="utf-8")
    assert "the run ended early (part 3 of 3 never reported: 1 test without a result): 1 test without a result" in text
    assert "<li><code>b.yaml::four[eager]</code>" in text
    assert "b.jsonl: this file is empty: its run ended before it could write anything; it is not known which" in text
    capsys.readouterr()
    assert report(tmp_path, {"1": "", "2": ""}, "--verdict") == 2
    assert "all of these files are empty" in capsys.readouterr().err


def test_no_output_overwrites_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, {"1": part(1)}, "--results", str(tmp_path / "1")) == 2
    assert "this output would overwrite the input" in capsys.readouterr().err


def test_results_on_a_full_disk_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, {f"{i}": part(i) for i in (1, 2, 3)}, "--results", "/dev/full") == 2
    assert "/dev/full: cannot be written: No space left on device" in capsys.readouterr().err
