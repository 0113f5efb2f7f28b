"""Collects results on the controller as they come in, in every mode pytest runs in, and writes the reports.

Results travel as user properties of the test reports: those survive a forked child and an xdist worker. A test
that died with its process has none; its report still says which test it was.
"""

import json
import shlex
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.compilations import added_up
from harness.house_rules import requirements_above

RESULT_PROPERTY = "spyre_cb"
ATTEMPTS = "spyre_cb_attempts"
"""The attribute of a report of a test that was run more than once: how often."""
FIRST_FAILURE = "spyre_cb_first_failure"
"""The attribute of a report of a test that passed after it had failed: what was said of it then."""


class ResultStream:
    """A pytest plugin object, on the controller only."""

    def __init__(self, config: pytest.Config, page: Path | None, results: Path | None) -> None:
        self._config = config
        self._page = page
        self._results = results
        self._by_test: dict[str, dict[str, Any]] = {}
        self._began = time.time()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of a test come one after the other; the worst outcome counts."""
        entry = self._by_test.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0})
        entry["seconds"] += report.duration
        if hasattr(report, ATTEMPTS):
            entry["attempts"] = int(getattr(report, ATTEMPTS))
        for name, value in report.user_properties:
            if name == RESULT_PROPERTY:
                entry.update(json.loads(str(value)))
        if report.failed:
            entry["text"] = "\n".join([entry["text"], text_of(report)] if _failed(entry) else [text_of(report)])
            entry["outcome"] = "failed" if report.when == "call" else "error"
        elif hasattr(report, FIRST_FAILURE) and not _failed(entry):
            entry["outcome"], entry["text"] = "flaky", str(getattr(report, FIRST_FAILURE))
        elif hasattr(report, "wasxfail") and not _failed(entry):
            entry["outcome"] = "xfailed" if report.skipped else "xpassed"
            entry["text"] = text_of(report) or report.wasxfail
        elif report.skipped and not _failed(entry):
            entry["outcome"] = "skipped"
            entry["text"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else text_of(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that could not be collected is a result too."""
        if report.failed:
            self._by_test[report.nodeid] = {
                "test": report.nodeid,
                "outcome": "error",
                "seconds": 0.0,
                "text": text_of(report),
            }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Write what was asked for, and say where it is below everything that pytest says."""
        yield
        compiled = added_up(entry.get("compiled") for entry in self._by_test.values())
        for line in compiled:
            self._say(line)
        lines = [self._header(), *self._by_test.values(), self._footer(int(session.exitstatus), compiled)]
        if self._results:
            self._results.parent.mkdir(parents=True, exist_ok=True)
            self._results.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            self._say(f"results: {self._results}")
        if self._page:
            from harness.report.page import write_page  # jinja2 is only needed here

            self._page.parent.mkdir(parents=True, exist_ok=True)
            write_page(self._page, lines[0], lines[1:-1], lines[-1])
            self._say(f"report: {self._page}")

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)

    def _header(self) -> dict[str, Any]:
        from harness.run_settings import settings_key

        settings = self._config.stash[settings_key]
        return {
            "header": 1,
            "engine": settings.driver.describe(),
            "models": list(settings.models),
            "backends": list(dict.fromkeys(e["backend"] for e in self._by_test.values() if "backend" in e)),
            "command": shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            "python": sys.version.split()[0],
            "began": self._began,
            "requirements": self._requirements(),
        }

    def _requirements(self) -> dict[str, Any]:
        """Those that the suites of this run are held to, by id."""
        files = {entry["test"].partition("::")[0] for entry in self._by_test.values()}
        suites = [self._config.rootpath / file for file in files if file.endswith((".yaml", ".yml"))]
        return {name: dict(listed) for suite in sorted(suites) for name, listed in requirements_above(suite).items()}

    def _footer(self, exitstatus: int, compiled: list[str]) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for entry in self._by_test.values():
            counts[entry["outcome"]] = counts.get(entry["outcome"], 0) + 1
        seconds = time.time() - self._began
        return {"footer": 1, "counts": counts, "exitstatus": exitstatus, "seconds": seconds, "compiled": compiled}


def text_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What pytest shows of a failure; not which of xdist's workers it was in, which is not about the test."""
    return "" if report.longrepr is None else str(report.longrepr).strip()


def _failed(entry: Mapping[str, Any]) -> bool:
    return entry["outcome"] in {"failed", "error"}
