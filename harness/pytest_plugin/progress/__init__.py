"""Live progress of a long run in the terminal: running tests, counts, steps a second, failures.

Only on a terminal to which nothing else writes. ``view.py`` renders it, ``plugin.py`` shows it.
"""

import os

import pytest

from harness.pytest_plugin.results import ResultStream

OTHER_OUTPUT = ("usepdb", "trace", "collectonly", "setupshow", "setupplan", "setuponly")


class Progress:
    """pytest plugin on the controller: shows progress if the run's options allow it."""

    def __init__(self, results: ResultStream) -> None:
        self._results = results

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start now, because the terminal reporter exists only now."""
        if wanted(session.config):
            # Importing rich is slow.
            from harness.pytest_plugin.progress.plugin import ProgressShown

            session.config.pluginmanager.register(ProgressShown(session.config, self._results))


def wanted(config: pytest.Config) -> bool:
    """Return whether to show progress: on a terminal, without options for more (-v, -s, --pdb) or less output (-q)."""
    option, reporter = config.option, config.pluginmanager.get_plugin("terminalreporter")
    if option.cb_no_progress or reporter is None or not reporter.isatty or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if option.verbose or option.capture == "no" or any(getattr(option, name, False) for name in OTHER_OUTPUT):
        return False
    return not (option.log_cli_level or config.getini("log_cli"))
