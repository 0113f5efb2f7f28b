"""Report flaky tests: tests that failed, and then passed when they were repeated (``--cb-retries``).

The outcome of such a test is ``flaky``, neither ``passed`` nor ``failed``.
"""

import pytest

from harness.pytest_plugin.results import ATTEMPTS, FIRST_FAILURE
from harness.utils.text import plural


class FlakyTests:
    """A pytest plugin in the main process (with xdist, the controller): reports flaky tests.

    The run fails if there are flaky tests, unless ``allowed`` is True (``--cb-allow-flaky``).
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._flaky: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        if not hasattr(report, FIRST_FAILURE):
            return None
        return "flaky", "≈", ("FLAKY", {"yellow": True})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, FIRST_FAILURE):
            self._flaky.append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a section with the flaky tests, each with the text of its first failure."""
        if not self._flaky:
            return
        terminalreporter.section("FLAKY: failed, then passed", yellow=True)
        for report in self._flaky:
            attempt = f"passed at attempt {getattr(report, ATTEMPTS)}"
            terminalreporter.write_line(f"{report.nodeid}: {attempt}; the first failure:", yellow=True)
            terminalreporter.write_line(str(getattr(report, FIRST_FAILURE)))
        if not self._allowed:
            count = plural(len(self._flaky), "flaky test")
            terminalreporter.write_line(f"{count}: the run fails; to let it pass:  --cb-allow-flaky", red=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._flaky and not self._allowed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
