"""Collect results on the controller in every mode of pytest, and write the reports.

Results are sent as user properties of test reports, which work with forked children and xdist's workers. A test whose
process died has none; its report has only its name.
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
from typing import IO, Any

import pytest

from harness.cards.discovery import find_cards
from harness.cases.lint import requirements_above
from harness.drivers.compilations import added_up
from harness.drivers.optional import backend_label
from harness.report.outcomes import counts_of, properties_of
from harness.report.reading import FORMAT, Recorded
from harness.report.tested import leases_of, model_digests, models_that_ran
from harness.report.writing import ReportError, Wanted, write_reports
from harness.utils import spent

RESULT_PROPERTY = "spyre_cb"
SPENT_PROPERTY = "spyre_cb_spent"
"""Property with the time spent by the processes of a test since the test before, see ``harness/utils/spent.py``."""
WORKER_DIED = "???"
"""The phase in xdist's report for a test whose worker died."""
ATTEMPTS = "spyre_cb_attempts"
"""Attribute of the report of a repeated test: the number of attempts."""
FIRST_FAILURE = "spyre_cb_first_failure"
"""Attribute of the report of a flaky test: the text of its failure."""


class ResultStream:
    """pytest plugin on the controller only. Results are written immediately, so that they are kept if the run dies."""

    def __init__(self, config: pytest.Config, results: Path | None, wanted: Wanted) -> None:
        self._config = config
        self._results = results
        self._wanted = wanted
        self._by_test: dict[str, dict[str, Any]] = {}
        self._written: set[str] = set()
        self._file: IO[str] | None = None
        self._began = time.time()
        self._spent: Counter[str] = Counter()

    def pytest_sessionstart(self) -> None:
        """Start the file of results. Its path has been checked with the options (``register.py``)."""
        if self._results is not None:
            self._results.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._results.open("w", encoding="utf-8")
            self._write(self._header())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record setup, call and teardown of a test. The worst outcome counts."""
        if report.when == WORKER_DIED:
            report.when = "call"  # the test ran, so all reports, including pytest's own, count it as failed
        entry = self._by_test.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0})
        entry["seconds"] += report.duration
        if getattr(report, "start", None):
            entry.setdefault("start", report.start)
        if hasattr(report, ATTEMPTS):
            entry["attempts"] = int(getattr(report, ATTEMPTS))
        for name, value in report.user_properties:
            if name == RESULT_PROPERTY:
                entry.update(json.loads(str(value)))
            elif name == SPENT_PROPERTY and report.when == "call":  # each phase repeats the properties
                self._spent.update(json.loads(str(value)))
        # pytest's own JUnit file gets short properties for queries, instead of the data for reports.
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

    def result_of(self, nodeid: str) -> Mapping[str, Any]:
        """Return the result of a test so far."""
        return self._by_test.get(nodeid, {})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write a finished test. A test whose worker died has no such event, and is written at the end."""
        self._write_result(nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that could not be collected, which is a result, too."""
        if report.failed:
            self._by_test[report.nodeid] = {
                "test": report.nodeid,
                "outcome": "error",
                "seconds": 0.0,
                "text": text_of(report),
            }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Write the requested reports, and print their paths below pytest's summary."""
        yield
        for nodeid in self._by_test:
            self._write_result(nodeid)
        compiled = self._compiled()
        for line in compiled:
            self._say(line)
        if self._spent:
            self._say(f"where time went, all processes together: {spent.summary(self._spent)}")
        if self._file is None and self._wanted == Wanted():
            return
        footer = self._footer(int(session.exitstatus), compiled)
        self._write(footer)
        if self._file is not None:
            self._file.close()
            self._say(f"results: {self._results}")
        if not self._reported(self._wanted, self._by_test.values(), footer):
            session.exitstatus = max(int(session.exitstatus), int(pytest.ExitCode.INTERNAL_ERROR))

    def show_so_far(self, line: str) -> None:
        """Print a line, and write the page, if requested, with the results so far."""
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
        """Write the reports and print their paths, followed by ``more``. Returns False if one can't be written."""
        run = Recorded(self._results or Path("results"), self._header(), tuple(entries), footer)
        try:
            for line in write_reports(wanted, run):
                self._say(f"{line}{more}")
        except ReportError as error:
            self._say(f"ERROR: {error}")
            return False
        return True

    def _write_result(self, nodeid: str) -> None:
        if nodeid in self._by_test and nodeid not in self._written:
            self._written.add(nodeid)
            self._write(self._by_test[nodeid])

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

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
            "began": self._began,
        }

    def _requirements(self) -> dict[str, Any]:
        """Return the requirements for the suites of this run, by id."""
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
    """Return the commit that is checked out in ``folder``, with a plus if files are modified; None without git."""
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
    """Return pytest's text about a failure, without the name of xdist's worker."""
    return "" if report.longrepr is None else str(report.longrepr).strip()


def _failed(entry: Mapping[str, Any]) -> bool:
    return entry["outcome"] in {"failed", "error"}
