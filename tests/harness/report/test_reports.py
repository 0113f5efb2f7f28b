"""Tests of reports: every format has the same results, also of merged and of interrupted runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.cli import main
from harness.report.allure_files import STATUS
from tests.helpers.result_records import HEADER, REASON, Record, page, poor, record, steps_verdict, table, verdict

BROKEN = verdict(False, "step 3 differs", rule='docs/scheduling-rules.md "Decode"', details=["  step", "> 3"])
MIXED: list[Record] = [
    record("fine", markers=["cb", "cpu"], verdicts=[verdict(True, "12 steps as expected")]),
    record("broken", "failed", text="step 3 differs\n\x1b[31mat once", verdicts=[BROKEN]),
    record("unsure", "flaky", text="failed at first"),
    record("listed", "xfailed", known_failure={"reason": "https://example.org/1 it is known"}),
    record("listed-and-passed", "xpassed", known_failure={"reason": "https://example.org/2"}),
    record("crashed", "error", text="died of signal 11 (SIGSEGV)"),
    poor("left-out", "skipped", REASON, "sendnn"),
]


def results(path: Path, records: Sequence[Record], footer: dict[str, Any] | None = None, **header: Any) -> Path:
    """Write a results file with these records, as ``--cb-results`` does, and return its path.

    ``footer`` None means that the run was interrupted: the file has no footer.
    """
    lines = [HEADER | header, *records, *([footer] if footer is not None else [])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


FOOTER = {"footer": 1, "counts": {}, "exitstatus": 1, "seconds": 72.4, "backends": ["eager"], "compiled": []}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return results(tmp_path / "run.jsonl", MIXED, FOOTER)


def test_every_format_has_every_result_once(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, xml, folder, summary = (tmp_path / name for name in ("r.html", "r.xml", "allure", "r.md"))
    formats = ["--html", str(html), "--junit", str(xml), "--allure", str(folder), "--markdown", str(summary)]
    assert main(["report", str(run), *formats]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output == [f"report: {html}", f"allure results: {folder}", f"junit: {xml}", f"markdown: {summary}"]
    names = [each["test"].partition("::")[2] for each in MIXED]
    cases = ElementTree.parse(xml).getroot().findall(".//testcase")
    assert [case.get("name") for case in cases] == names
    allure = [json.loads(path.read_text()) for path in folder.glob("*-result.json")]
    assert sorted(each["name"] for each in allure) == sorted(each.get("case", "left-out") for each in MIXED)
    assert all(f">{each.partition('[')[0]}<" in html.read_text(encoding="utf-8") for each in names)
    text = summary.read_text(encoding="utf-8")
    assert "1 passed" in text
    assert all(f"`{name}`" in text for name in ("broken[tiny-granite-eager]", "crashed[tiny-granite-eager]"))


def test_junit_counts_and_names_what_a_query_looks_for(run: Path, tmp_path: Path) -> None:
    assert main(["report", str(run), "--junit", str(tmp_path / "r.xml")]) == 0
    [suite] = ElementTree.parse(tmp_path / "r.xml").getroot()
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "7", "failures": "3", "errors": "1", "skipped": "2"}
    fine, broken, *_ = suite.findall("testcase")
    properties = {each.get("name") for each in fine.iter("property")}
    assert properties >= {"requirement__CB-JOIN-02", "model__tiny-granite", "backend__eager", "marker__cpu"}
    failure = broken.find("failure")
    assert failure is not None
    assert failure.get("message") == "step 3 differs"
    assert failure.text == "step 3 differs\n\\x1b[31mat once"


def test_allure_has_labels_steps_pictures_and_a_history_that_stays(run: Path, tmp_path: Path) -> None:
    rows = table()
    drawn = steps_verdict(rows, rows)
    drawn["data"]["sizes"] = [[60, 40, 0], [10, 40, 0]]
    again = results(tmp_path / "again.jsonl", [*MIXED[1:], record("drawn", verdicts=[drawn])], FOOTER, began=1.9e9)
    found = []
    for path in (run, again):
        folder = tmp_path / path.stem
        assert main(["report", str(path), "--allure", str(folder)]) == 0
        found.append({each["name"]: each for each in map(json.loads, _texts(folder, "*-result.json"))})
    first, second = found
    assert first["broken"]["historyId"] == second["broken"]["historyId"]
    assert first["broken"]["uuid"] != second["broken"]["uuid"]
    assert len({each["historyId"] for each in first.values()}) == len(MIXED)
    assert {name: each["status"] for name, each in first.items()} == {
        str(each.get("case", "left-out")): STATUS[each["outcome"]] for each in MIXED
    }
    labels = {(label["name"], label["value"]) for label in first["broken"]["labels"]}
    assert labels >= {
        ("epic", "Scheduler steps"),
        ("feature", "scheduler_steps/joining"),
        ("story", "CB-JOIN-02"),
        ("severity", "critical"),
    }
    assert [(step["name"], step["status"]) for step in first["broken"]["steps"]] == [("step 3 differs", "failed")]
    assert first["listed"]["links"] == [{"type": "issue", "name": "known failure", "url": "https://example.org/1"}]
    attached = {each["name"]: tmp_path / "again" / each["source"] for each in second["drawn"]["attachments"]}
    assert set(attached) == {"step table", "time-line", "case"}
    assert attached["time-line"].read_text().startswith("<svg")
    written = attached["step table"].read_text().splitlines()
    assert len(written) == 1 + len(rows)
    assert written[0] == "step,kind,tkv,waiting,running,outputs,finished,reserved,used"
    assert written[1] == "0,start,0,0,,,,0,0"
    assert written[-2] == "63,decode,125,,,1 0,1 0,6,4"


def _texts(folder: Path, pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in folder.glob(pattern)]


def test_shards_are_one_run_and_the_later_result_counts(tmp_path: Path) -> None:
    one = results(tmp_path / "1.jsonl", [record("a"), record("both", "failed", text="no")], FOOTER, began=1.0)
    two = results(tmp_path / "2.jsonl", [record("b"), record("both")], {**FOOTER, "exitstatus": 0}, began=2.0)
    assert main(["report", str(two), str(one), "--junit", str(tmp_path / "r.xml")]) == 0
    [suite] = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")


def test_two_engines_are_shown_side_by_side(tmp_path: Path) -> None:
    one = results(tmp_path / "1.jsonl", [record("a")], {**FOOTER, "exitstatus": 0}, engine="reference")
    two = results(tmp_path / "2.jsonl", [record("a", "failed", text="no")], FOOTER, engine="vllm-spyre 1.6.1")
    assert main(["report", str(one), str(two), "--html", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<th scope="col">reference/tiny-granite/eager' in html
    assert '<th scope="col">vllm-spyre 1.6.1/tiny-granite/eager' in html
    assert "1 of 2 tests that ran failed, 1 passed" in html


def test_earlier_runs_are_a_history(tmp_path: Path) -> None:
    nights = [
        results(tmp_path / f"{i}.jsonl", [record("a", outcome), record("b")], FOOTER, began=1.8e9 + 86_400 * i)
        for i, outcome in enumerate(["passed", "failed", "failed"])
    ]
    old = [str(path) for path in reversed(nights[:2])]
    assert main(["report", str(nights[2]), "--history", *old, "--html", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    history = html[html.index('id="history"') : html.index('id="requirements"')]
    assert history.count("✗ failed</span>") == 2
    assert "failed since 2027-01-1" in history
    assert "b[tiny-granite-eager]" not in history


def test_a_history_tells_what_changes_and_what_got_slower(tmp_path: Path) -> None:
    nights = [
        results(
            tmp_path / f"{i}.jsonl",
            [record("a", outcome), record("b", seconds=seconds), record("c", seconds=0.1 + i)],
            FOOTER,
            began=1.8e9 + 86_400 * i,
        )
        for i, (outcome, seconds) in enumerate([("passed", 2.0), ("failed", 2.2), ("passed", 2.1), ("failed", 9.0)])
    ]
    old = [str(path) for path in nights[:3]]
    assert main(["report", str(nights[3]), "--history", *old, "--html", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    history = html[html.index('id="history"') : html.index('id="requirements"')]
    assert ", changed 3 times" in history
    slower = history[history.index("got slower") :]
    assert slower.index("b[tiny-granite-eager]</code><td>2.1 s<td>9.0 s") < slower.index("c[tiny-granite-eager]")


def test_a_run_that_was_cut_off_is_reported_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path / "cut.jsonl", [record("a")])
    path.write_text(path.read_text() + '{"test": "suites/a.y', encoding="utf-8")
    assert main(["report", str(path), "--html", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]) == 1
    assert "the results are incomplete: the run was not finished" in capsys.readouterr().out
    for name in ("r.html", "r.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "The run was not finished, so results are missing. So far: the only test that ran passed" in text


@pytest.mark.parametrize(
    ("footer", "says"),
    [
        ({"exitstatus": 2}, "the run was interrupted (running: t::b)"),
        ({"exitstatus": 1, "stopped": "stopping after 1 failures"}, "the run ended early (stopping after 1 failures)"),
    ],
)
def test_a_run_that_ended_early_is_reported_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], footer: dict[str, Any], says: str
) -> None:
    path = results(tmp_path / "cut.jsonl", [record("a")], FOOTER | footer | {"running": ["t::b"]})
    assert main(["report", str(path), "--html", str(tmp_path / "r.html"), "--markdown", str(tmp_path / "r.md")]) == 1
    assert says in capsys.readouterr().out
    for name in ("r.html", "r.md"):
        text = (tmp_path / name).read_text(encoding="utf-8").replace("\\", "")
        assert f"{says[1:]}, so results are missing. Until then: the only test that ran passed" in text


def test_a_run_that_was_killed_names_the_test_that_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path / "cut.jsonl", [record("a"), {"running": [f"t::{name}" for name in "bcdef"]}])
    assert main(["report", str(path), "--html", str(tmp_path / "r.html")]) == 1
    running = " (running: t::b, t::c, t::d and 2 more)"
    assert running in capsys.readouterr().out
    assert running in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_leaves_the_one_that_is_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "r.html"
    html.write_text("a good page", encoding="utf-8")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["report", str(run), "--html", str(html)]) == 2
    assert capsys.readouterr().err.endswith("r.html: cannot be written: No space left on device\n")
    assert html.read_text(encoding="utf-8") == "a good page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "run.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{run}"], "no report is requested; use --html, --allure, --junit, --markdown, --results or --verdict"),
        (["nowhere.jsonl", "--html", "x.html"], "nowhere.jsonl: cannot be read"),
        (["{run}", "--html", "/proc/no/x.html"], "/proc/no/x.html: cannot be written"),
        (["{run}", "--html", "{run}"], "would overwrite the input"),
        (["{run}", "--html", "x", "--junit", "./x"], "--html and --junit both write x, so one would overwrite"),
        (["{run}", "--markdown", "{run}"], "would overwrite the input"),
        (["pyproject.toml", "--history", "{run}", "--junit", "{run}"], "would overwrite the input"),
        (["{run}", "--history", "pyproject.toml", "--html", "x.html"], "pyproject.toml:1: this line is not JSON"),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence(
    run: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *(argument.format(run=run) for argument in arguments)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_markdown_is_added_to_what_is_there(run: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n", encoding="utf-8")
    assert main(["report", str(run), "--markdown", str(summary)]) == 0
    assert summary.read_text(encoding="utf-8").startswith("# Before\n## ")


def test_the_page_names_the_requirements_that_do_not_hold(tmp_path: Path) -> None:
    """The page lists the smallest set of requirements that explains all failures.

    For each requirement it shows the failed test that lists the fewest requirements.
    """
    wide = record("wide", "failed", verdicts=[BROKEN], requirements=["CB-JOIN-02", "CB-TKV-01"])
    results = [wide, record("narrow", "failed", verdicts=[BROKEN], requirements=["CB-TKV-01"]), record("good")]
    musts = {"CB-TKV-01": {"must": "tkv MUST grow by 1."}, "CB-JOIN-02": {"must": "It MUST join."}}
    html = page(tmp_path, results, 1, requirements=musts)
    listed = html[html.index('class="broken"') : html.index("Tests that went wrong")]
    named, _, others = listed.partition("Also violated in the same tests")
    assert "<b>2 of 2</b> tests went wrong" in named
    assert "tkv MUST grow by 1." in named
    assert '<a href="#r1"><code>narrow</code></a>: step 3 differs' in named
    assert "CB-JOIN-02" not in named
    assert "CB-JOIN-02" in others
    assert "docs/scheduling-rules.md &#34;Decode&#34;" in html


def test_rules_are_counted_where_no_requirement_is_known(tmp_path: Path) -> None:
    bad = [record(name, "failed", verdicts=[BROKEN], requirements=[]) for name in ("one", "two")]
    assert "<b>2×</b> docs/scheduling-rules.md &#34;Decode&#34;" in page(tmp_path, bad, 1)
