"""The pytest plugin of ``--cb-isolation`` in the process that collects the tests: runs each case in a child process."""

import contextlib
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.cards.discovery import CardsError
from harness.cards.lease import Lease
from harness.drivers.optional import compile_key
from harness.forking.process import ForkRefusedError
from harness.pytest_plugin.cards import lease_for
from harness.pytest_plugin.case_protocol import run_here
from harness.pytest_plugin.isolation.grouping import by_engine, failed_first, failed_last_time
from harness.pytest_plugin.isolation.launching import ALONE, Environ, ParentGoneError, fork, spawn
from harness.pytest_plugin.isolation.messages import Branch, Broken, Done, Start
from harness.pytest_plugin.isolation.modes import Mode
from harness.pytest_plugin.isolation.parents import Parents
from harness.pytest_plugin.isolation.reports import reports_of
from harness.pytest_plugin.isolation.worker import Worker
from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.settings import draws_failures
from harness.types import EngineSetup

NOT_FOR_CHILDREN: dict[str, Any] = {
    "allure_report_dir": None,
    "basetemp": None,
    "capture": "no",
    "cb_case_timeout": None,
    "collectonly": False,
    "dist": "no",
    "forked": False,
    "cb_html": None,
    "cb_isolation": None,
    "cb_markdown": None,
    "maxfail": 0,
    "numprocesses": None,
    "cb_retries": 0,
    "cb_results": None,
    "cb_resume": False,
    "cb_shard": None,
    "tx": [],
    "xmlpath": None,
}
"""Options that concern the run as a whole, with the values that they have in a child."""


NO_PLUGINS = ("terminal", "cacheprovider", "schemathesis")
"""pytest plugins that a child does not load, because it does not need them, and importing schemathesis is slow."""


class Isolation:
    """A pytest plugin in every process that collects tests (with xdist, in the workers): runs each case in a child.

    ``limit`` is the timeout of a case in seconds, None if there is none.
    """

    def __init__(self, config: pytest.Config, mode: Mode, limit: float | None, parents: Parents) -> None:
        self._config = config
        self._mode = mode
        self._limit = limit
        self._parents = parents
        self._worker: Worker | None = None
        self._serves: EngineSetup | None = None
        self._lease: Lease | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = failed_first(by_engine(items), failed_last_time(self._config))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Return xdist's work-stealing scheduler for ``--cb-isolation=case``, so that no worker is idle at the end."""
        if self._mode != "case" or config.getvalue("dist") != "load":
            return None
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)

    def run(self, item: CaseItem, nextitem: pytest.Item | None) -> Sequence[pytest.TestReport]:
        """Run a case in a child, and return pytest's reports. A case with the marker ``skip`` needs no child."""
        if item.get_closest_marker("skip") is not None:
            return run_here(item, nextitem)
        began = time.monotonic()
        try:
            outcome = self._worker_for(item).run(item.nodeid, self._limit)
        except CardsError as error:
            outcome = Broken(str(error))
        except ParentGoneError as error:
            outcome = Broken(str(error), stderr=error.stderr)
        except BaseException:  # At Ctrl-C, do not wait until the child has finished the running case.
            if self._worker is not None:
                self._worker.kill()
            raise
        # Tear down the fixtures of other tests, which ran in this process.
        item.session._setupstate.teardown_exact(nextitem)
        if isinstance(outcome, Done):
            return [
                self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
                for data in outcome.reports
            ]
        if self._worker is not None and not self._worker.alive:
            self._end()
        return reports_of(item, outcome, time.monotonic() - began)

    def _worker_for(self, item: CaseItem) -> Worker:
        wanted = item.expanded.setup if self._mode == "engine" else None
        if self._worker is not None and not self._worker.alive:
            with contextlib.suppress(Warning):  # With ``-W error`` the warning would fail this case.
                item.warn(pytest.PytestWarning(f"{self._worker.ended} between two cases; a new process is started"))
            self._end()
        if self._worker is not None and self._serves != wanted:
            self._end()
        if self._worker is None:
            cases = self._cases(item, wanted)
            self._lease = lease_for(cases)
            self._worker, self._serves = self._started(item, cases, wanted), wanted
        return self._worker

    def _started(self, item: CaseItem, cases: Sequence[CaseItem], wanted: EngineSetup | None) -> Worker:
        """Start a child: a fork of the preloaded process, or a new process for a real card or if forks are refused.

        ``wanted`` is the setup of the engine whose cases the child runs, None if the child runs the cases of all
        engines. ``cases`` are all of these cases, and ``item`` is the first of them that will run.

        Raises ParentGoneError if the child should be a fork of the preloaded process, but the preloaded process has
        ended. Then no new process is started instead.
        """
        if self._parents.wanted and self._lease is None and not any(case.on_card for case in cases):
            with contextlib.suppress(ForkRefusedError):
                return self._forked(item, wanted)
        return Worker(start_for(self._config, cases, forks=self._mode == "case"), spawn(self._environ()))

    def _forked(self, item: CaseItem, wanted: EngineSetup | None) -> Worker:
        """Start a child as a fork of the preloaded process.

        ``item`` is the first case that the child will run. ``wanted`` is the setup of the engine whose cases the child
        runs, None if the child runs the cases of all engines. Raises ParentGoneError if the preloaded process has
        ended, and ForkRefusedError if it refuses to fork.
        """
        # All forks use the pytest session of the preloaded process, which has collected the tests of all engines.
        start = start_for(self._config, self._cases(item, None), forks=self._mode == "case")
        branch = self._branch(item, wanted)
        try:
            with self._parents.preloaded() as folder:
                forked = replace(start, parent=folder, branch=branch)
                return Worker(forked, fork(folder, self._environ(), branch))
        except ForkRefusedError as error:
            with contextlib.suppress(Warning):
                item.warn(pytest.PytestWarning(f"engines run in new processes, not in forks: {error}"))
            raise

    def _branch(self, item: CaseItem, wanted: EngineSetup | None) -> Branch | None:
        if wanted is None:
            return None
        key = compile_key(item.settings.driver, wanted)
        return None if key is None else Branch(key, wanted)

    def _cases(self, item: CaseItem, setup: EngineSetup | None) -> list[CaseItem]:
        """Return the cases of pytest's session whose engine has the setup ``setup``, or all cases if it is None.

        One child process may run all of these cases. ``item`` is any case of the session.
        """
        cases = [other for other in item.session.items if isinstance(other, CaseItem)]
        return [case for case in cases if setup is None or case.expanded.setup == setup]

    def _environ(self) -> Environ:
        alone = ALONE if self._mode == "case" else {}
        return {**alone, **(self._lease.environ if self._lease is not None else {})}

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        if self._lease is not None:
            self._lease.release()
        self._lease = None

    def pytest_sessionfinish(self) -> None:
        self._end()
        self._parents.close()


def start_for(config: pytest.Config, cases: Sequence[CaseItem], *, forks: bool) -> Start:
    """Return the first message to a child: the files and options of its pytest session, which come from ``config``.

    ``cases`` are the cases that the child may run. With ``forks``, the child runs each case in a fork of itself.
    """
    shown = config.option.capture == "no"
    options = {name: value for name, value in vars(config.option).items() if _travels(value)} | NOT_FOR_CHILDREN
    options["cb_plot"] = draws_failures(config)
    options["plugins"] = [*config.option.plugins, *(f"no:{name}" for name in NO_PLUGINS)]
    options["rootdir"] = str(config.rootpath)
    options["inifilename"] = str(config.inipath) if config.inipath else None
    options.pop("file_or_dir", None)
    files = tuple(dict.fromkeys(str(case.path) for case in cases))
    return Start(files, options, tuple(sys.path), forks, shown)


def _travels(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
