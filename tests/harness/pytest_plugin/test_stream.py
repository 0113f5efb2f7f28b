"""Tests of the conversion of pytest's reports to results: outcomes, and the lines of the results file."""

import json
import shutil
import types
from pathlib import Path
from typing import Any

import pytest

from harness.drivers.engine_pool import EnginePool
from harness.drivers.reference import SimulationDriver
from harness.pytest_plugin.results import RESULT_PROPERTY, ResultStream
from harness.pytest_plugin.settings import Settings, settings_key
from harness.references import Oracle
from harness.report.reading import read_run
from harness.report.writing import Wanted

TEST = "suites/a.yaml::a-case[m-eager]"
Record = dict[str, Any]


class Run:
    """A session with a ResultStream, whose reports a test passes in.

    ``terminal_lines`` has the lines for the terminal.
    """

    def __init__(self, folder: Path) -> None:
        self.terminal_lines: list[str] = []
        self.results = folder / "reports" / "results.jsonl"
        self.page = folder / "reports" / "page.html"
        driver = SimulationDriver()
        stash = pytest.Stash()
        stash[settings_key] = Settings(driver, EnginePool(driver), ("m", "n"), None, None, Oracle(), None)
        terminal = types.SimpleNamespace(write_line=self.terminal_lines.append)
        self.config: Any = types.SimpleNamespace(
            stash=stash,
            rootpath=folder,
            option=types.SimpleNamespace(),
            pluginmanager=types.SimpleNamespace(get_plugin={"terminalreporter": terminal}.get),
            invocation_params=types.SimpleNamespace(args=("suites/a.yaml", "-m", "cb and cpu")),
        )
        self.stream = self.streaming(results=self.results)

    def streaming(self, page: Path | None = None, results: Path | None = None) -> ResultStream:
        stream = ResultStream(self.config, results, Wanted(html=page))
        stream.pytest_sessionstart()
        return stream

    def report(self, when: Any, outcome: Any, text: Any = None, test: str = TEST, **properties: Any) -> None:
        self.stream.pytest_runtest_logreport(
            pytest.TestReport(
                nodeid=test,
                location=("a.yaml", 1, test),
                keywords={},
                outcome=outcome,
                longrepr=text,
                when=when,
                duration=0.25,
                user_properties=[(name, json.dumps(value)) for name, value in properties.items()],
            )
        )

    def reports(self, *outcomes: tuple[str, str], test: str = TEST) -> None:
        for when, outcome in outcomes:
            self.report(when, outcome, f"{outcome} in {when}" if outcome != "passed" else None, test)

    def finish(self, exitstatus: int = 0) -> list[Record]:
        """End the session with this exit status, and return all lines of the results file."""
        finishing = self.stream.pytest_sessionfinish(ended(exitstatus))
        next(finishing)
        assert not self.terminal_lines, "it speaks below everything that pytest says"
        with pytest.raises(StopIteration):
            next(finishing)
        return [json.loads(line) for line in self.results.read_text(encoding="utf-8").splitlines()]

    def only(self) -> Record:
        """End the session and return its result. There must be exactly one."""
        _, entry, _ = self.finish()
        return entry


def ended(exitstatus: int) -> Any:
    """Return a fake of a pytest session that ended with this exit status."""
    return types.SimpleNamespace(exitstatus=exitstatus)


def in_result(about: Record) -> dict[str, Any]:
    """Return the user property with which a test passes these fields of its result to the results file."""
    return {RESULT_PROPERTY: about}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


# --- outcomes --------------------------------------------------------------------------------------------------


def test_a_test_that_passed_is_one_result_with_the_time_of_all_its_phases(run: Run) -> None:
    run.reports(("setup", "passed"), ("call", "passed"), ("teardown", "passed"))
    assert run.only() == {"test": TEST, "outcome": "passed", "seconds": 0.75}


@pytest.mark.parametrize(
    ("phases", "outcome", "text"),
    [
        ([("setup", "passed"), ("call", "failed"), ("teardown", "passed")], "failed", "failed in call"),
        ([("setup", "failed"), ("teardown", "passed")], "error", "failed in setup"),
        ([("setup", "skipped"), ("teardown", "passed")], "skipped", "skipped in setup"),
        ([("setup", "passed"), ("call", "skipped"), ("teardown", "passed")], "skipped", "skipped in call"),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "failed")], "error", "failed in teardown"),
        ([("setup", "passed"), ("call", "skipped"), ("teardown", "failed")], "error", "failed in teardown"),
        (
            [("setup", "passed"), ("call", "failed"), ("teardown", "failed")],
            "error",
            "failed in call\nfailed in teardown",
        ),
        ([("setup", "passed"), ("call", "failed"), ("teardown", "skipped")], "failed", "failed in call"),
        ([("???", "failed")], "failed", "failed in ???"),
    ],
)
def test_the_worst_outcome_of_a_tests_phases_counts(
    run: Run, phases: list[tuple[str, str]], outcome: str, text: str
) -> None:
    run.reports(*phases)
    entry = run.only()
    assert (entry["outcome"], entry["text"]) == (outcome, text)


def test_the_reason_of_a_skip_is_its_text(run: Run) -> None:
    run.report("setup", "skipped", ("a.yaml", 3, "Skipped: backend inductor needs a C++ compiler"))
    assert run.only()["text"] == "Skipped: backend inductor needs a C++ compiler"


def test_a_file_that_could_not_be_collected_is_a_result(run: Run) -> None:
    run.stream.pytest_collectreport(pytest.CollectReport("suites/b.yaml", "failed", "b.yaml:3:1: unknown key", []))
    run.stream.pytest_collectreport(pytest.CollectReport("suites/a.yaml", "passed", None, []))
    assert run.only() == {
        "test": "suites/b.yaml",
        "outcome": "error",
        "seconds": 0.0,
        "text": "b.yaml:3:1: unknown key",
    }


# --- what tests say of themselves ------------------------------------------------------------------------------


def test_what_a_test_says_of_itself_is_in_its_result(run: Run) -> None:
    about = {"case": "a-case", "model": "m"}
    run.report("setup", "passed", **in_result(about))
    run.report("call", "passed", **in_result(about | {"verdicts": [{"passed": True}]}))
    run.report("teardown", "passed", **in_result(about | {"verdicts": [{"passed": True}]}))
    entry = run.only()
    assert (entry["case"], entry["model"], entry["verdicts"]) == ("a-case", "m", [{"passed": True}])
    assert (entry["test"], entry["outcome"]) == (TEST, "passed")


def test_a_test_that_died_says_what_it_announced(run: Run) -> None:
    run.report("setup", "passed", **in_result({"case": "a-case"}))
    run.report("???", "failed", "crashed with signal 9")
    entry = run.only()
    assert (entry["case"], entry["outcome"], entry["text"]) == ("a-case", "failed", "crashed with signal 9")


def test_properties_of_others_are_left_alone(run: Run) -> None:
    run.report("call", "passed", verdicts=[], case={"outcome": "failed"})
    assert run.only() == {"test": TEST, "outcome": "passed", "seconds": 0.25}


# --- the file --------------------------------------------------------------------------------------------------


def test_results_stand_between_a_header_and_a_footer_in_the_order_they_came(run: Run) -> None:
    for test, outcome in (("t::c", "passed"), ("t::a", "failed"), ("t::b", "passed"), ("t::d", "skipped")):
        run.reports(("setup", "passed"), ("call", outcome), ("teardown", "passed"), test=test)
    header, *entries, footer = run.finish(exitstatus=1)
    assert [entry["test"] for entry in entries] == ["t::c", "t::a", "t::b", "t::d"]
    assert header["header"] == 2
    assert header["engine"] == SimulationDriver().describe()
    assert header["models"] == ["m", "n"]
    assert (header["digests"], header["cards"], header["simulated"]) == ({}, [], False)
    assert header["command"] == "pytest suites/a.yaml -m 'cb and cpu'"
    assert header["python"].startswith("3.")
    assert footer["footer"] == 1
    assert footer["counts"] == {"passed": 2, "failed": 1, "skipped": 1}
    assert footer["exitstatus"] == 1
    assert footer["seconds"] >= 0


def test_a_run_of_nothing_has_a_header_and_a_footer(run: Run) -> None:
    header, footer = run.finish(exitstatus=5)
    assert (header["header"], footer["counts"], footer["exitstatus"]) == (2, {}, 5)


def test_the_file_is_written_to_a_new_folder_and_its_path_is_printed(run: Run) -> None:
    run.finish()
    assert run.results.is_file()
    assert run.terminal_lines == [f"results: {run.results}"]


def test_results_are_written_as_they_come_and_a_run_that_dies_leaves_them(run: Run) -> None:
    run.reports(("setup", "passed"), ("call", "passed"), ("teardown", "passed"), test="t::a")
    run.stream.pytest_runtest_logfinish("t::a")
    run.reports(("setup", "passed"), test="t::b")
    left = read_run(run.results)
    assert left.footer is None
    assert [record["test"] for record in left.results] == ["t::a"]
    run.finish()
    assert [record["test"] for record in read_run(run.results).results] == ["t::a", "t::b"]


def test_the_tests_that_run_are_in_the_file_until_they_have_ended(run: Run) -> None:
    for test in ("t::a", "t::b", "t::c"):
        run.stream.pytest_runtest_logstart(test)
    run.reports(("setup", "passed"), ("call", "passed"), ("teardown", "passed"), test="t::b")
    run.stream.pytest_runtest_logfinish("t::b")
    left = read_run(run.results)
    assert left.running == ("t::a", "t::c")
    assert left.incomplete.endswith("the run was not finished, or is still running (running: t::a, t::c)")
    assert [*map(len, map(json.loads, run.results.read_text(encoding="utf-8").splitlines()))][2:] == [1]
    run.stream.pytest_runtest_logfinish("t::c")
    assert read_run(run.results).running == ("t::a",)
    assert run.finish(exitstatus=2)[-1]["running"] == ["t::a"]


def test_a_disk_that_is_full_ends_the_file_and_not_the_run(run: Run) -> None:
    run.stream = run.streaming(results=Path("/dev/full"))
    for test in ("t::a", "t::b"):
        run.reports(("setup", "passed"), ("call", "passed"), ("teardown", "passed"), test=test)
        run.stream.pytest_runtest_logfinish(test)
    session: Any = types.SimpleNamespace(exitstatus=0)
    assert len([*run.stream.pytest_sessionfinish(session)]) == 1
    assert run.terminal_lines == [
        "ERROR: --cb-results /dev/full: cannot be written: No space left on device; results are missing in this file"
    ]
    assert session.exitstatus == 3


def test_what_json_does_not_have_is_not_in_the_file(run: Run) -> None:
    report = pytest.TestReport(TEST, ("a.yaml", 1, TEST), {}, "failed", "half a \ud800 character", "call")
    report.user_properties = [(RESULT_PROPERTY, '{"verdicts": [{"logprobs": [NaN, -Infinity, -0.5]}]}')]
    run.stream.pytest_runtest_logreport(report)
    entry = run.only()
    assert entry["text"] == "half a \\ud800 character"
    assert entry["verdicts"] == [{"logprobs": [None, None, -0.5]}]


@pytest.mark.parametrize("left", [0, 1])
def test_a_run_that_was_stopped_says_why_if_tests_are_missing(run: Run, left: int) -> None:
    run.reports(("setup", "passed"), ("call", "failed"), ("teardown", "passed"))
    tests = [types.SimpleNamespace(nodeid=TEST), *[types.SimpleNamespace(nodeid="t::b")] * left]
    stopped = "stopping after 1 failures"
    session: Any = types.SimpleNamespace(exitstatus=1, items=tests, shouldfail=stopped, shouldstop=False)
    assert len([*run.stream.pytest_sessionfinish(session)]) == 1
    assert (read_run(run.results).footer or {})["stopped"] == (stopped if left else "")


def test_junit_gets_names_that_can_be_looked_for_and_not_what_reports_need(run: Run) -> None:
    terminal_lines = {"requirements": ["CB-TKV-01"], "model": "m", "backend": "eager", "verdicts": []}
    report = pytest.TestReport(TEST, ("a.yaml", 1, TEST), {}, "passed", None, "call")
    report.user_properties = [("mine", 1), (RESULT_PROPERTY, json.dumps(terminal_lines))]
    run.stream.pytest_runtest_logreport(report)
    names = [name for name, _ in report.user_properties]
    assert names == ["mine", "requirement__CB-TKV-01", "model__m", "backend__eager"]


def test_a_text_of_several_lines_is_one_line_of_the_file(run: Run) -> None:
    run.report("call", "failed", "step 2 differs\n  65≠99 \u2028 next")
    assert run.only()["text"] == "step 2 differs\n  65≠99 \u2028 next"


def test_the_page_is_written_of_what_is_in_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[tuple[Any, ...]] = []
    monkeypatch.setattr("harness.report.page.write_page", lambda *about: pages.append(about))
    run.stream = run.streaming(page=run.page, results=run.results)
    for test in ("t::a", "t::b"):
        run.reports(("setup", "passed"), ("call", "failed"), ("teardown", "passed"), test=test)
    _, *entries, footer = run.finish(exitstatus=1)
    assert len(entries) == 2
    [(path, written, earlier)] = pages
    assert (path, earlier) == (run.page, ())
    assert ([*written.results], written.footer) == (entries, footer)
    assert run.terminal_lines == [f"results: {run.results}", f"report: {run.page}"]


def test_the_page_is_written_into_a_new_folder(run: Run) -> None:
    run.stream = run.streaming(page=run.page)
    run.reports(("setup", "passed"), ("call", "failed"), ("teardown", "passed"))
    assert len([*run.stream.pytest_sessionfinish(ended(1))]) == 1
    assert "a-case" in run.page.read_text(encoding="utf-8")


def test_nothing_is_written_or_printed_by_default(run: Run) -> None:
    shutil.rmtree(run.results.parent)
    run.stream = run.streaming()
    run.reports(("setup", "passed"), ("call", "passed"), ("teardown", "passed"))
    finishing = run.stream.pytest_sessionfinish(ended(0))
    assert len([*finishing]) == 1
    assert not run.terminal_lines
    assert not run.results.parent.exists()


def test_it_writes_without_a_terminal(run: Run) -> None:
    run.config.pluginmanager.get_plugin = {}.get
    assert len(run.finish()) == 2
    assert run.terminal_lines == []
