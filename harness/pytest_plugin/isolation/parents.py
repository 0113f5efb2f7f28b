"""Start and end the preloaded process of a run, which is forked for each engine. xdist's workers share this process."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.drivers.optional import starts_in_forks
from harness.pytest_plugin.isolation.launching import ParentGoneError, PreloadedParent
from harness.pytest_plugin.settings import settings_key

_FOLDER = "spyre_cb_preloaded"


class Parents:
    """A pytest plugin that starts the preloaded process (preloaded.py), from which the processes of engines are forked.

    The main process of pytest (with xdist, the controller) starts it at the start of the session. xdist's workers get
    the path of the folder that has its socket, so that they can connect to it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._own: PreloadedParent | None = None
        self._named: str | None = getattr(config, "workerinput", {}).get(_FOLDER)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Start the preloaded process, so that it imports modules while this process collects the tests."""
        option = self._config.option
        if not hasattr(self._config, "workerinput") and not option.collectonly and self.wanted:
            self._own = self._started()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self._own is not None:
            node.workerinput[_FOLDER] = str(self._own.folder)

    @contextmanager
    def preloaded(self) -> Generator[Path, None, None]:
        """Yield the folder with the socket of the preloaded process, from which children are forked.

        If the preloaded process does not run yet, start it. If the body of the ``with`` statement raises
        ParentGoneError, the next call starts a new preloaded process.
        """
        if self._named is None and self._own is None:
            self._own = self._started()
        try:
            yield Path(self._named) if self._named is not None else self._own.folder  # type: ignore[union-attr]
        except ParentGoneError:
            self._named = None
            self.close()
            raise

    @property
    def wanted(self) -> bool:
        """Return whether the children of this run are forks of the preloaded process.

        Children that use a card are always new processes.
        """
        driver = self._config.stash[settings_key].driver
        forks = self._config.option.cb_start_processes == "fork"
        return forks and sys.platform == "linux" and starts_in_forks(driver)

    def _started(self) -> PreloadedParent:
        option = self._config.option
        driver = self._config.stash[settings_key].driver
        return PreloadedParent(driver.name, option.cb_attention, shown=option.capture == "no")

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
        self._own = None
