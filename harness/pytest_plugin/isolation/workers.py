"""Timeout of cases that run in xdist's workers without isolation: a worker that hangs writes its stacks and exits."""

import faulthandler
import re
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness.pytest_plugin.isolation.stacks import without_pytest
from harness.pytest_plugin.items import CaseItem

_FOLDER = "spyre_cb_stacks"


class HangsOfWorkers:
    """A pytest plugin on xdist's controller: adds the stacks of a hung worker to xdist's report of the crash."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._folder = TemporaryDirectory(prefix="spyre-cb-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_FOLDER] = self._folder.name

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        worker = re.search(r"worker '([^']*)' crashed", str(report.longrepr))
        if worker is None or not (file := Path(self._folder.name, worker[1])).is_file():
            return
        stacks = file.read_text(encoding="utf-8", errors="replace").splitlines()
        file.unlink()
        if stacks:
            limit = f"{self._limit:g} s (--cb-case-timeout)"
            what = f"this case took longer than {limit}, so the worker that ran it was ended"
            report.longrepr = "\n".join([what, "", "the worker was in:", "", *without_pytest(stacks)])

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()


class HangGuard:
    """A pytest plugin in a worker: ends the process when a case takes longer than ``limit`` seconds.

    Before the process ends, faulthandler writes the stacks of its threads to a file.
    """

    def __init__(self, worker: dict[str, Any], limit: float) -> None:
        self._limit = limit
        # The file must stay open: faulthandler writes to its descriptor from a C thread.
        self._file = Path(worker[_FOLDER], worker["workerid"]).open("w", encoding="utf-8")  # noqa: SIM115

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if isinstance(item, CaseItem):
            faulthandler.dump_traceback_later(self._limit, exit=True, file=self._file)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


def register(config: pytest.Config, limit: float) -> None:
    """Register the plugin for this process: ``HangsOfWorkers`` on the controller, ``HangGuard`` in a worker."""
    worker = getattr(config, "workerinput", None)
    plugin = HangsOfWorkers(limit) if worker is None else HangGuard(worker, limit)
    config.pluginmanager.register(plugin, "spyre-cb-hang-guard")
