"""Tests of results files with wrong values: every command that reads them reports the line in one sentence."""

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.report.lines import Outcome
from harness.report.merging import merged
from harness.report.outcomes import SYMBOLS
from harness.report.reading import ResultsError, read_run
from harness.report.writing import Wanted, write_reports
from tests.helpers.result_records import (
    HEADER,
    changed,
    chunked_verdict,
    output_verdict,
    record,
    steps_verdict,
    table,
    verdict,
)

FOOTER = {
    "footer": 1,
    "running": ["t::b"],
    "counts": {"failed": 1},
    "exitstatus": 1,
    "seconds": 72.4,
    "backends": ["eager"],
    "spent": {},
}
DRAWN = steps_verdict(table(), changed(table(), 5, tkv=1))
DRAWN["data"] |= {"sizes": [[60, 40, 0], [10, 40, 0]], "step_seconds": [0.01] * (table()[-1].step + 1)}
VERDICTS = [DRAWN, chunked_verdict(), output_verdict(False, "a b", "a c", [1, 2], [1, 3])]
FULL = record(
    "all",
    "failed",
    verdicts=VERDICTS,
    sections=[["stdout", "a"]],
    cards=["0"],
    known_failure={"reason": "r"},
    start=1.0,
)
LINES = [HEADER, FULL, FOOTER]


def written(folder: Path, lines: list[Any]) -> Path:
    path = folder / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_every_outcome_has_its_place_in_the_form() -> None:
    assert set(get_args(Outcome)) == set(SYMBOLS)


WRONG = {
    "seconds null": (1, {"seconds": None}, "seconds: must be a number"),
    "seconds text": (1, {"seconds": "1"}, "seconds: must be a number"),
    "seconds below 0": (1, {"seconds": -1}, "seconds: must be greater than or equal to 0"),
    "seconds NaN": (1, {"seconds": float("nan")}, "the line has NaN, which is not a number in JSON"),
    "an unknown outcome": (1, {"outcome": "fine"}, "outcome: must be 'passed', 'failed'"),
    "no outcome": (1, {"outcome": None}, "outcome: must be"),
    "a test that is a number": (1, {"test": 5}, "test: must be text"),
    "requirements text": (1, {"requirements": "CB-1"}, "requirements: must be a list"),
    "verdicts null": (1, {"verdicts": None}, "verdicts: must be a list"),
    "a verdict of text": (1, {"verdicts": ["a"]}, "verdicts.0: must be"),
    "a headline null": (1, {"verdicts": [verdict(True, "a") | {"headline": None}]}, "verdicts.0.headline: must"),
    "a duration of text": (
        1,
        {"verdicts": [verdict(True, "a", data={"step_seconds": ["x"]})]},
        "verdicts.0.data.step_seconds.0: must",
    ),
    "steps text": (1, {"verdicts": [verdict(True, "a", data={"steps": "x"})]}, "verdicts.0.data.steps: must"),
    "a step far away": (
        1,
        {"verdicts": [verdict(True, "a", data={"steps": [{"step": 10**9}]})]},
        "verdicts.0.data.steps.0.step: must be less than or equal to 100000",
    ),
    "half a character": (1, {"text": "a\ud800"}, "this line has half of a character (a lone surrogate)"),
    "half a character in an unknown field": (
        1,
        {"x": ["\udfff"]},
        "this line has half of a character (a lone surrogate)",
    ),
    "a start after the end of time": (1, {"start": 1e18}, "start: must be less than"),
    "a start with many digits": (1, {"start": 10**400}, "start: the number has too many digits"),
    "a part that does not exist": (
        0,
        {"shard": {"part": 7, "of": 5}},
        "`shard.part` must be from 1 to `shard.of` (5), but is 7",
    ),
    "began null": (0, {"began": None}, "began: must be a number"),
    "began text": (0, {"began": "today"}, "began: must be a number"),
    "digests a list": (0, {"digests": []}, "digests: must be an object"),
    "models null": (0, {"models": None}, "models: must be a list"),
    "an unknown format": (0, {"header": 3}, "this file has results format 3, but format 2 is needed"),
    "a format true": (0, {"header": True}, "this file has results format True"),
    "a format 2.0": (0, {"header": 2.0}, "this file has results format 2.0"),
    "exitstatus text": (2, {"exitstatus": "0"}, "exitstatus: must be a whole number"),
    "exitstatus null": (2, {"exitstatus": None}, "exitstatus: must be a whole number"),
    "requirements of another form": (2, {"requirements": {"A": 1}}, "requirements.A: must be"),
    "spent infinite": (2, {"spent": {"steps": float("inf")}}, "the line has Infinity, which is not a number in JSON"),
}


@pytest.mark.parametrize(("line", "wrong", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_one_sentence_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int, wrong: dict[str, Any], says: str
) -> None:
    lines: list[Any] = [*LINES]
    lines[line] = lines[line] | wrong
    path = written(tmp_path, lines)
    for command in (
        ["report", str(path), "--html", str(tmp_path / "r.html")],
        ["compare", str(path), str(path)],
        ["known-failures", str(path)],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        place = "run.jsonl: " if "header" in wrong else f"run.jsonl:{line + 1}: "
        assert f"{place}{says}" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*LINES, FULL], "4: nothing may follow the footer (line 3): remove this line"),
        ([*LINES, FOOTER], "4: nothing may follow the footer (line 3): remove this line"),
        ([*LINES, *LINES], "4: this is a second header (the first is in line 1)"),
        ([HEADER, HEADER, FULL, FOOTER], "2: this is a second header (the first is in line 1)"),
        ([HEADER, {"running": ["a"]}, FULL, FOOTER], "3: nothing may follow the list of the running tests (line 2)"),
    ],
)
def test_a_line_in_the_wrong_place_is_named(tmp_path: Path, lines: list[Any], says: str) -> None:
    with pytest.raises(ResultsError, match=rf"run\.jsonl:{re.escape(says)}"):
        read_run(written(tmp_path, lines))


def test_half_a_line_after_the_footer_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    path.write_text(path.read_text(encoding="utf-8") + '{"test": "a', encoding="utf-8")
    with pytest.raises(ResultsError, match=r"run\.jsonl:4: nothing may follow the footer \(line 3\)"):
        read_run(path)


def test_a_named_pipe_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, pipe = str(written(tmp_path, LINES)), str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for command in (
        ["report", pipe, "--verdict"],
        ["report", right, "--history", pipe, "--verdict"],
        ["report", right, "--html", pipe],
        ["report", right, "--markdown", pipe],
        ["report", right, "--results", pipe],
        ["compare", right, pipe],
        ["known-failures", pipe],
    ):
        assert main(command) == 2
        assert re.search(r"pipe: cannot be (read|written): not a regular file\n$", capsys.readouterr().err)


def test_a_pipe_that_is_open_is_read(tmp_path: Path) -> None:
    text = written(tmp_path, LINES).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    assert len(read_run(Path(f"/dev/fd/{reading}")).results) == 1
    os.close(reading)


def test_right_values_are_let_through(tmp_path: Path) -> None:
    run = read_run(written(tmp_path, [HEADER | {"new": None}, FULL | {"newer": {"a": [None]}}, FOOTER]))
    assert [result["outcome"] for result in run.results] == ["failed"]


def test_a_table_without_steps_is_reported(tmp_path: Path) -> None:
    """A table has no steps if the case failed before the first one, and then has no columns either."""
    lines = json.loads(json.dumps(LINES))
    for verdict_line in lines[1]["verdicts"]:
        verdict_line["data"]["steps"] = []
    run = read_run(written(tmp_path, lines))
    assert len([*write_reports(Wanted(html=tmp_path / "r.html", allure=tmp_path / "allure"), run)]) == 2


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 2**70, 0.5, -1e308, "", "x", "\x00", [], [[]], [None], ["a"], [1, 2], {}, {"a": 1}, {"1": [1]}]
)


def _places(value: Any) -> list[tuple[Any, ...]]:
    """Return the path (keys and indices) of every value in a decoded line of JSON.

    Of a list, the first three elements count.
    """
    if isinstance(value, dict):
        return [(key, *rest) for key, each in value.items() for rest in [(), *_places(each)]]
    if isinstance(value, list):
        return [(i, *rest) for i, each in enumerate(value[:3]) for rest in [(), *_places(each)]]
    return []


PLACES = [(number, *place) for number, line in enumerate(LINES) for place in _places(line)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), VALUES)
def test_any_wrong_value_is_refused_or_reported(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    """Put ``value`` at ``place`` in a results file. Either the file is refused, or every report can be written."""
    lines = json.loads(json.dumps(LINES))
    *way, last = place
    where = lines
    for each in way:
        where = where[each]
    where[last] = value
    try:
        run = read_run(written(tmp_path, lines))
    except ResultsError:
        return
    wanted = Wanted(tmp_path / "r.html", tmp_path / "allure", tmp_path / "r.xml", tmp_path / "r.md")
    assert len([*write_reports(wanted, merged([run, run]), [run])]) == 4
