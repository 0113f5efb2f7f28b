"""The preloaded process of a run: one for all of xdist's workers, replaced if it has ended."""

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
    """pytest plugin: starts the preloaded process early on the controller, and passes its address to workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._own: PreloadedParent | None = None
        self._named: str | None = getattr(config, "workerinput", {}).get(_FOLDER)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Start it now, so that it imports while tests are collected."""
        option = self._config.option
        if not hasattr(self._config, "workerinput") and not option.collectonly and self.wanted:
            self._own = self._started()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self._own is not None:
            node.workerinput[_FOLDER] = str(self._own.folder)

    @contextmanager
    def one(self) -> Generator[Path, None, None]:
        """Yield the folder of a preloaded process. If it turns out to have ended, the next call starts a new one."""
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
        """Return whether processes of this run are forked, unless they use a card."""
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
