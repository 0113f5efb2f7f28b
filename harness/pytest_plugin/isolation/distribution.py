"""Distribute the tests among xdist's workers so that all tests of an engine run in the same worker.

Each engine is then started only once.
"""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.pytest_plugin.isolation.grouping import failed_last_time, groups_of, stage_of
from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.stages import Stages

_FOLDER = "spyre_cb_groups"
_FILE = "groups.json"


class GroupScheduling(LoadScopeScheduling):
    """An xdist scheduler that runs all tests of a group in the same worker.

    ``file`` is the path of a JSON file whose key ``groups`` has the name of the group of each test, by node id.
    """

    def __init__(self, config: pytest.Config, log: Any, file: Path) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._file = file
        self._groups: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        if not self._groups:
            self._groups = json.loads(self._file.read_text(encoding="utf-8"))["groups"]
        return self._groups.get(nodeid, nodeid)

    def remove_node(self, node: Any) -> str | None:
        """Remove a worker that has died, and assign its tests to other workers, except the test that it was running.

        Return the node id of the test that was running, None if there was none. xdist's own schedulers assign this test
        to another worker as well, which the test could then crash.
        """
        workload = self.assigned_work.pop(node)
        unfinished = [(unit, nodeid) for unit in workload.values() for nodeid, done in unit.items() if not done]
        if not unfinished:
            return None
        unit, crashed = unfinished[0]
        unit[crashed] = True
        self.workqueue.update({scope: unit for scope, unit in workload.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return str(crashed)

    def _reschedule(self, node: Any) -> None:
        """Assign more tests to a worker. If no tests are left, shut the worker down.

        A worker does not run the last of its tests until it gets more tests or is shut down.
        """
        if node not in self.registered_collections:
            return  # The worker is new and has not collected the tests yet.
        super()._reschedule(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()


class Distribution:
    """A pytest plugin on xdist's controller and in each worker: passes the groups of tests to the controller.

    The tests of a group run in the same worker. Only workers collect tests. They write the groups to a file, which
    ``GroupScheduling`` reads on the controller.
    """

    def __init__(self, config: pytest.Config, stages: Stages | None) -> None:
        self._config = config
        self._stages = stages
        self._failed = failed_last_time(config)
        self._folder = TemporaryDirectory(prefix="spyre-cb-") if stages is not None else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        assert self._folder is not None
        node.workerinput[_FOLDER] = self._folder.name

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the groups of the collected tests to the file.

        This must happen before xdist reports to the controller that this worker has collected the tests.
        """
        stages = {item.nodeid: stage_of(item) for item in session.items if isinstance(item, CaseItem)}
        worker = getattr(self._config, "workerinput", None)
        if worker is None:
            if self._stages is not None:
                self._stages.plan(stages)
            return
        groups = groups_of(session.items, self._failed)
        mine = Path(worker[_FOLDER], worker["workerid"])
        mine.write_text(json.dumps({"groups": groups, "stages": stages}), encoding="utf-8")
        os.replace(mine, mine.with_name(_FILE))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        if self._stages is not None:
            self._stages.plan(json.loads(self._file.read_text(encoding="utf-8"))["stages"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        return GroupScheduling(config, log, self._file) if config.getvalue("dist") == "load" else None

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name, _FILE)

    def pytest_unconfigure(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
