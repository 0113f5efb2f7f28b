"""Report each stage of a run when it is finished. A stage is, for example, all tests of one backend.

The report is a line with the outcomes of the stage. If an HTML page is requested, it is written with the results so
far.
"""

import time
from collections import Counter
from collections.abc import Mapping

import pytest

from harness.pytest_plugin.results import ResultStream
from harness.report.outcomes import PROBLEMS, duration


class Stages:
    """A pytest plugin in the main process (with xdist, the controller): reports each stage of the run when it ends."""

    def __init__(self, results: ResultStream) -> None:
        self._results = results
        self._stages: Mapping[str, str] = {}
        self._left: Counter[str] = Counter()
        self._done: set[str] = set()
        self._began = time.monotonic()

    def plan(self, stages: Mapping[str, str]) -> None:
        """Set the stage of each test, by node id. Only the first call has an effect."""
        if not self._stages:
            self._stages = stages
            self._left = Counter(stages.values())

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        stage = self._stages.get(nodeid)
        if stage is None or nodeid in self._done:
            return
        self._done.add(nodeid)
        self._left[stage] -= 1
        if not self._left[stage] and any(self._left.values()):
            line = f"{stage}: {self._outcomes(stage)} after {duration(time.monotonic() - self._began)}"
            self._results.show_so_far(line)

    def _outcomes(self, stage: str) -> str:
        outcomes = Counter(
            str(self._results.result_of(test).get("outcome")) for test, its in self._stages.items() if its == stage
        )
        order = [*PROBLEMS, *(name for name in outcomes if name not in PROBLEMS)]
        return ", ".join(f"{outcomes[name]} {name}" for name in order if outcomes[name])
