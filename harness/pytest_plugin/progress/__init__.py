"""Show the progress of a run on the terminal: running tests, tests per outcome, steps per second, failures.

The progress is not shown with options such as ``-v`` or ``-s``, which print more. ``view.py`` renders the progress, and
``plugin.py`` shows it.
"""

import os

import pytest

from harness.pytest_plugin.results import ResultStream

OTHER_OUTPUT = ("usepdb", "trace", "collectonly", "setupshow", "setupplan", "setuponly")


class Progress:
    """A pytest plugin in the main process (with xdist, the controller): registers ``ProgressShown`` if it is wanted."""

    def __init__(self, results: ResultStream) -> None:
        self._results = results

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Register ``ProgressShown``. This is not possible earlier, because pytest has no terminal reporter yet."""
        if wanted(session.config):
            # Imported only if needed, because importing rich is slow.
            from harness.pytest_plugin.progress.plugin import ProgressShown

            session.config.pluginmanager.register(ProgressShown(session.config, self._results))


def wanted(config: pytest.Config) -> bool:
    """Return whether to show progress: on a terminal, and without options such as ``-v``, ``-s`` and ``--pdb``."""
    option, reporter = config.option, config.pluginmanager.get_plugin("terminalreporter")
    if option.cb_no_progress or reporter is None or not reporter.isatty or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if option.verbose or option.capture == "no" or any(getattr(option, name, False) for name in OTHER_OUTPUT):
        return False
    return not (option.log_cli_level or config.getini("log_cli"))
