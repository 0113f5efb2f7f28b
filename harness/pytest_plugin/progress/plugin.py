"""Show the progress of a run below pytest's other output.

The display is updated when a test starts or ends. A thread could update it more often, but a process with several
threads can't be forked.
"""

import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live

from harness.pytest_plugin.progress.view import RunState, failure_line, rendered
from harness.pytest_plugin.results import ResultStream
from harness.report.outcomes import PROBLEMS, cause


class ProgressShown:
    """A pytest plugin in the main process (with xdist, the controller): shows the progress instead of pytest's dots."""

    def __init__(self, config: pytest.Config, results: ResultStream) -> None:
        self._config = config
        self._results = results
        self._state = RunState()
        self._live: Live | None = None
        self._file: Any = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._state.total = len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._state.total = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._start()
        self._state.running[nodeid] = time.time()
        self._draw()  # Even if the display was just updated: the next update may be long after this one.

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        result = self._results.result_of(nodeid)
        outcome = str(result.get("outcome", "passed"))
        self._state.finished(nodeid, outcome, _steps(result))
        if outcome in PROBLEMS and self._live is not None:
            self._live.console.print(
                failure_line(nodeid, outcome, cause(result)), no_wrap=True, overflow="ellipsis", crop=True
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Remove the character, such as ``.``, that pytest prints for a test. The test is still counted."""
        status = yield
        return (status[0], "", "") if self._live is not None and status else status

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._stop()

    def pytest_unconfigure(self) -> None:
        self._stop()

    def _start(self) -> None:
        """Start the display. This is done at the first test, after pytest has reported the collection."""
        if self._live is not None:
            return
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        writer = reporter._tw
        reporter.showfspath = False
        self._state.began = time.time()
        self._file = writer._file
        console = Console(file=writer._file, force_terminal=True)
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        console.show_cursor(True)  # If the process is killed, it can't show a hidden cursor again.
        writer._file = FileProxy(console, writer._file)

    def _stop(self) -> None:
        if self._live is None:
            return
        writer = self._config.pluginmanager.get_plugin("terminalreporter")._tw  # type: ignore[union-attr]
        writer._file.flush()
        writer._file = self._file
        live, self._live = self._live, None
        live.update(rendered(self._state, time.time()))
        live.stop()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(rendered(self._state, time.time()), refresh=True)


def _steps(result: Any) -> int:
    """Return the number of engine steps in a test's result, 0 if the result has no steps."""
    for verdict in result.get("verdicts", ()):
        steps = verdict.get("data", {}).get("steps")
        if steps:
            return int(steps[-1]["step"])
    return 0
