"""Progress of a long run, live in the terminal: what runs, how many did what, steps a second, failures as they come.

Only on a terminal, and only where nothing else writes to it. ``view.py`` is what is shown, ``plugin.py`` shows it.
"""

import os

import pytest

from harness.pytest_plugin.results import ResultStream

OTHER_OUTPUT = ("usepdb", "trace", "collectonly", "setupshow", "setupplan", "setuponly")


class Progress:
    """A pytest plugin, in the process that was started by hand: shows progress if this run is one to show it of."""

    def __init__(self, results: ResultStream) -> None:
        self._results = results

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Not before: the terminal is there now."""
        if wanted(session.config):
            # rich is slow to import.
            from harness.pytest_plugin.progress.plugin import ProgressShown

            session.config.pluginmanager.register(ProgressShown(session.config, self._results))


def wanted(config: pytest.Config) -> bool:
    """Only on a terminal; not where somebody asked for more (-v, -s, a debugger) or for less (-q)."""
    option, reporter = config.option, config.pluginmanager.get_plugin("terminalreporter")
    if option.cb_no_progress or reporter is None or not reporter.isatty or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if option.verbose or option.capture == "no" or any(getattr(option, name, False) for name in OTHER_OUTPUT):
        return False
    return not (option.log_cli_level or config.getini("log_cli"))
