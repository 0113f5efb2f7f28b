"""Collect the results of all tests in the main process (with xdist, the controller), and write the reports.

The result of a test is a user property of pytest's report. Other processes that run tests send pytest's reports to the
main process. If the process of a test died, the report has no such property, only the name of the test.
"""

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from harness.cards.discovery import find_cards
from harness.cases.lint import requirements_above
from harness.drivers.compilations import added_up
from harness.drivers.optional import backend_label
from harness.pytest_plugin.results_file import ResultsFile
from harness.pytest_plugin.resuming import EarlierRun, plan_fields
from harness.report.outcomes import counts_of, properties_of
from harness.report.plan import Plan
from harness.report.reading import FORMAT, Recorded
from harness.report.tested import leases_of, model_digests, models_that_ran
from harness.report.writing import ReportError, Wanted, write_reports
from harness.utils import spent

RESULT_PROPERTY = "spyre_cb"
SPENT_PROPERTY = "spyre_cb_spent"
"""Name of the user property with the times spent in a test, as JSON (``harness/utils/spent.py``)."""
WORKER_DIED = "???"
"""The phase (``when``) in xdist's report about a test whose worker died."""
ATTEMPTS = "spyre_cb_attempts"
"""Name of an attribute of the reports of a repeated test, with the number of attempts."""
FIRST_FAILURE = "spyre_cb_first_failure"
"""Name of an attribute of the report of a flaky test, with the text of its first failure."""


class ResultStream:
    """A pytest plugin in the main process (with xdist, the controller): writes the results file and the reports.

    Each result is written to the results file when its test ends, so that it is not lost if the run is killed.
    """

    def __init__(
        self, config: pytest.Config, results: Path | None, wanted: Wanted, earlier: EarlierRun | None = None
    ) -> None:
        self._config = config
        self._results = results
        self._wanted = wanted
        self._by_test: dict[str, dict[str, Any]] = {}
        self._written: set[str] = set()
        self._running: dict[str, None] = {}
        self._file: ResultsFile | None = None
        self._began = time.time()
        self._earlier = earlier
        self._plan: Plan | None = None
        self._spent: Counter[str] = Counter()

    def pytest_sessionstart(self) -> None:
        """Create the results file and write its header. With ``--cb-resume``, keep the file, and check its header.

        Raises pytest.UsageError if the header is of another run. The code in ``register.py`` has already checked that
        the file can be written.
        """
        if self._results is not None:
            self._file = ResultsFile(self._results)
        if self._earlier is not None:
            self._earlier.refuse_another(self._header())
        elif self._file is not None and self._file.can_go_back:
            self._file.begin([self._header()])  # Without the plan, which is not known yet.

    def plan(self, plan: Plan) -> None:
        """Write the plan, which lists the tests of the run, and the results of a resumed run to the results file.

        This method is called before the first test. Raises pytest.UsageError if the resumed run had other tests.
        """
        self._plan = plan
        kept: Mapping[str, Any] = {}
        if self._earlier is not None:
            self._earlier.refuse_other_tests(plan)
            kept = self._earlier.results
            self._by_test |= {test: dict(result) for test, result in kept.items()}
            self._written |= kept.keys()
        if self._file is not None:
            self._file.begin([self._header(), *kept.values()])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the report of a test's setup, call or teardown. The outcome of the test is the worst of the three."""
        if report.when == WORKER_DIED:
            report.when = "call"  # The test did run, so pytest must count it as failed, not as an error.
        entry = self._by_test.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0})
        entry["seconds"] += report.duration
        if getattr(report, "start", None):
            entry.setdefault("start", report.start)
        if hasattr(report, ATTEMPTS):
            entry["attempts"] = int(getattr(report, ATTEMPTS))
        for name, value in report.user_properties:
            if name == RESULT_PROPERTY:
                # An engine may compute NaN, which JSON does not have.
                entry.update(json.loads(str(value), parse_constant=lambda _: None))
            elif name == SPENT_PROPERTY and report.when == "call":  # The report of each phase has all properties.
                self._spent.update(json.loads(str(value)))
        # Remove the data for our reports. pytest's own JUnit file gets a few short properties instead.
        report.user_properties = [
            *(pair for pair in report.user_properties if pair[0] not in (RESULT_PROPERTY, SPENT_PROPERTY)),
            *(properties_of(entry) if report.when == "call" or report.failed else ()),
        ]
        if report.failed:
            entry["text"] = "\n".join([entry["text"], text_of(report)] if _failed(entry) else [text_of(report)])
            entry["outcome"] = "failed" if report.when == "call" else "error"
            entry["sections"] = [list(section) for section in report.sections]
        elif hasattr(report, FIRST_FAILURE) and not _failed(entry):
            entry["outcome"], entry["text"] = "flaky", str(getattr(report, FIRST_FAILURE))
        elif hasattr(report, "wasxfail") and not _failed(entry):
            entry["outcome"] = "xfailed" if report.skipped else "xpassed"
            entry["text"] = text_of(report) or report.wasxfail
        elif report.skipped and not _failed(entry):
            entry["outcome"] = "skipped"
            entry["text"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else text_of(report)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record in the results file that a test has started. If pytest is killed, the file shows which tests ran."""
        self._running[nodeid] = None
        self._show_running()

    def result_of(self, nodeid: str) -> Mapping[str, Any]:
        """Return what is known of the result of a test. The test may still be running."""
        return self._by_test.get(nodeid, {})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the result of a test.

        xdist does not call this hook for a test whose worker died. The result of such a test is written at the end of
        the session.
        """
        self._running.pop(nodeid, None)
        self._write_result(nodeid)
        self._show_running()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that could not be collected, as a result with the outcome error."""
        if report.failed:
            self._by_test[report.nodeid] = {
                "test": report.nodeid,
                "outcome": "error",
                "seconds": 0.0,
                "text": text_of(report),
            }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Write the requested reports, and print their paths after pytest's summary."""
        yield
        for nodeid in self._by_test:
            self._running.pop(nodeid, None)
            self._write_result(nodeid)
        compiled = self._compiled()
        for line in compiled:
            self._say(line)
        if self._spent:
            self._say(f"time spent in all processes together: {spent.summary(self._spent)}")
        if self._earlier is not None and self._file is not None and not self._file.begun:
            return  # This run ended before its tests were known, so the file is still that of the run to be resumed.
        if self._file is None and self._wanted == Wanted():
            return
        footer = self._footer(int(session.exitstatus), compiled)
        footer |= {"stopped": self._stopped(session), "running": list(self._running)}
        self._running.clear()
        self._write(footer)
        well = self._closed()
        if not self._reported(self._wanted, self._by_test.values(), footer) or not well:
            session.exitstatus = max(int(session.exitstatus), int(pytest.ExitCode.INTERNAL_ERROR))

    def _stopped(self, session: pytest.Session) -> str:
        """Return pytest's reason why the run ended before its last test, such as ``-x``. Return "" if all tests ran."""
        tests = getattr(session, "items", ())
        all_ran = bool(tests) and all(item.nodeid in self._written for item in tests)
        return "" if all_ran else str(getattr(session, "shouldfail", "") or getattr(session, "shouldstop", "") or "")

    def _closed(self) -> bool:
        """Close the results file, and print its path. Return False if the file could not be written completely."""
        if self._file is None:
            return True
        self._file.close()
        problem = self._file.problem
        self._say(f"ERROR: --cb-results {problem}" if problem else f"results: {self._results}")
        return not problem

    def show_so_far(self, line: str) -> None:
        """Print a line. If an HTML page is requested, write it with the results so far."""
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
        self._say(line)
        if self._wanted.html is None:
            return
        footer = self._footer(0, self._compiled()) | {"goes_on": True}
        known = [entry for entry in self._by_test.values() if entry["test"] in self._written]
        self._reported(Wanted(html=self._wanted.html), known, footer, ", incomplete")

    def _compiled(self) -> list[str]:
        return added_up(entry.get("compiled") for entry in self._by_test.values())

    def _reported(
        self, wanted: Wanted, entries: Iterable[dict[str, Any]], footer: dict[str, Any], more: str = ""
    ) -> bool:
        """Write the reports, and print a line with the path of each, followed by ``more``.

        Return False if a report can't be written.
        """
        run = Recorded(self._results or Path("results"), self._header(), tuple(entries), footer)
        try:
            for line in write_reports(wanted, run):
                self._say(f"{line}{more}")
        except ReportError as error:
            self._say(f"ERROR: {error}")
            return False
        return True

    def _show_running(self) -> None:
        if self._file is not None:
            self._file.show_running(self._running)

    def _write_result(self, nodeid: str) -> None:
        if nodeid in self._by_test and nodeid not in self._written:
            self._written.add(nodeid)
            self._write(self._by_test[nodeid])

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            if not self._file.begun:
                self._file.begin([self._header()])
            self._file.write(line)

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)

    def _header(self) -> dict[str, Any]:
        from harness.pytest_plugin.settings import settings_key

        settings = self._config.stash[settings_key]
        return {
            "header": FORMAT,
            "engine": settings.driver.describe(),
            "models": list(settings.models),
            "digests": model_digests(settings.models, settings.driver),
            "cards": list(map(str, find_cards())),
            "simulated": backend_label(settings.driver, "sendnn") != "sendnn",
            "command": shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            "python": sys.version.split()[0],
            "revision": revision(self._config.rootpath),
            **plan_fields(self._config.option, self._plan, self._earlier),
            "began": self._began if self._earlier is None else self._earlier.header.get("began", self._began),
        }

    def _requirements(self) -> dict[str, Any]:
        """Return the requirements that apply to the suites of this run, by id."""
        files = {entry["test"].partition("::")[0] for entry in self._by_test.values()}
        suites = [self._config.rootpath / file for file in files if file.endswith((".yaml", ".yml"))]
        return {name: dict(listed) for suite in sorted(suites) for name, listed in requirements_above(suite).items()}

    def _footer(self, exitstatus: int, compiled: list[str]) -> dict[str, Any]:
        from harness.pytest_plugin.settings import settings_key

        entries = self._by_test.values()
        settings = self._config.stash[settings_key]
        return {
            "footer": 1,
            "digests": model_digests([*settings.models, *models_that_ran(entries)], settings.driver),
            "leases": leases_of(entries),
            "counts": counts_of(entries),
            "exitstatus": exitstatus,
            "seconds": time.time() - self._began,
            "backends": list(dict.fromkeys(entry["backend"] for entry in entries if "backend" in entry)),
            "compiled": compiled,
            "spent": {name: round(amount, 3) for name, amount in self._spent.items()},
            "requirements": self._requirements(),
        }


@lru_cache(maxsize=1)
def revision(folder: Path) -> str | None:
    """Return the git commit that is checked out in ``folder``, followed by ``+`` if files are modified.

    Return None if git is not installed, or if the folder is not in a repository.
    """
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def text_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return pytest's text about a failure, "" if there is none."""
    return "" if report.longrepr is None else str(report.longrepr).strip()


def _failed(entry: Mapping[str, Any]) -> bool:
    return entry["outcome"] in {"failed", "error"}
