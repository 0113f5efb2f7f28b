"""Determine the plan of a run, for the header of the results file, and deselect tests that have a result already.

The plan lists all tests of the run. With ``--cb-shard``, it lists the tests of part 1, then the tests of part 2, and so
on. With ``--cb-resume``, tests that have a result from an earlier run are deselected. With xdist, only workers collect
tests. The workers write the plan to a file, which the controller reads.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness.pytest_plugin.resuming import Earlier
from harness.pytest_plugin.settings import settings_key
from harness.pytest_plugin.shards import Sharding
from harness.report.plan import Plan, plan_from

PLANNING = "spyre-cb-planning"
_FOLDER = "spyre_cb_plan"
_EARLIER = "spyre_cb_earlier"
_FILE = "plan.json"


def earlier_for(config: pytest.Config) -> Earlier:
    """Return the tests of the earlier run (``--cb-resume``), which xdist's controller has sent to this worker."""
    worker: Any = config
    kept, killed = worker.workerinput[_EARLIER]
    return Earlier(frozenset(kept), frozenset(killed))


class Planning:
    """A pytest plugin in every process that collects tests, and on xdist's controller: determines the plan of the run.

    ``planned`` is called with the plan in the main process (with xdist, the controller), before the first test runs. In
    xdist's workers, ``planned`` is None.
    """

    def __init__(
        self, config: pytest.Config, sharding: Sharding | None, earlier: Earlier, planned: Callable[[Plan], None] | None
    ) -> None:
        self._config = config
        self._sharding = sharding
        self._planned = planned
        self._earlier = earlier
        self._folder: TemporaryDirectory[str] | None = None
        self._parts: list[list[str]] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Deselect tests that have a result from an earlier run.

        Tests that were running when an earlier run was killed are moved to the end.
        """
        self._parts = self._sharding.parts if self._sharding else [[item.nodeid for item in items]]
        out = [item for item in items if item.nodeid in self._earlier.kept]
        if out:
            self._config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item.nodeid not in self._earlier.kept]
        items.sort(key=lambda item: item.nodeid in self._earlier.killed)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Determine the plan. In one of xdist's workers, write it to a file; otherwise pass it to ``planned``.

        With xdist, the controller reads the file when xdist reports that a worker has collected the tests.
        """
        if self._config.option.collectonly or not self._parts:  # pytest found none of the paths on its command line
            return
        # Other plugins may have deselected more tests since, for example with ``--lf``.
        here = {item.nodeid for item in session.items} | self._earlier.kept
        mine = self._sharding.wanted.number - 1 if self._sharding else 0
        self._parts[mine] = [test for test in self._parts[mine] if test in here]
        plan = Plan(tuple(map(tuple, self._parts)), self._config.stash[settings_key].digests)
        worker = getattr(self._config, "workerinput", None)
        if worker is None:
            self._report_plan(plan)
            return
        draft = Path(worker[_FOLDER], worker["workerid"])
        draft.write_text(json.dumps(plan.as_data()), encoding="utf-8")
        os.replace(draft, draft.with_name(_FILE))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        self._folder = self._folder or TemporaryDirectory(prefix="spyre-cb-")
        node.workerinput[_FOLDER] = self._folder.name
        node.workerinput[_EARLIER] = [list(self._earlier.kept), list(self._earlier.killed)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        assert self._folder is not None
        file = Path(self._folder.name, _FILE)
        if self._planned is not None and file.exists():
            plan = plan_from(json.loads(file.read_text(encoding="utf-8")))
            assert plan is not None
            self._report_plan(plan)

    def _report_plan(self, plan: Plan) -> None:
        planned, self._planned = self._planned, None
        self._parts = [list(part) for part in plan.parts]
        if planned is not None:
            planned(plan)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set exit status 0 if no test ran because all tests have results already, or belong to other shards."""
        is_controller = not hasattr(self._config, "workerinput")
        if is_controller and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and any(self._parts):
            session.exitstatus = pytest.ExitCode.OK

    def pytest_unconfigure(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
