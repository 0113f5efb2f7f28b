"""How one case is run under pytest where that is not pytest's own way: elsewhere, or again after it failed."""

from collections.abc import Callable, Sequence

import pytest
from _pytest.runner import runtestprotocol  # the one way to run an item and get its reports; not in pytest's API

from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.results import ATTEMPTS, FIRST_FAILURE

Run = Callable[[CaseItem, pytest.Item | None], Sequence[pytest.TestReport]]
"""Run a case, and before the next item tear down what that one does not need: the reports of all phases."""


class CaseProtocol:
    """A pytest plugin, wherever tests are run."""

    def __init__(self, run: Run, retries: int) -> None:
        self._run = run
        self._retries = retries

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not isinstance(item, CaseItem):
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._until_it_passes(item, nextitem):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _until_it_passes(self, item: CaseItem, nextitem: pytest.Item | None) -> Sequence[pytest.TestReport]:
        """The first failure is what is told of a test that goes on failing; one that passes then carries it along."""
        item.announce()
        first = self._run(item, nextitem)
        if not _failed(first) or item.known_failure is not None:
            return first
        for attempt in range(2, self._retries + 2):
            item.announce()
            again = self._run(item, nextitem)
            if not _failed(again):
                return _flaky(first, again, attempt)
        for report in first if self._retries else ():
            setattr(report, ATTEMPTS, self._retries + 1)
        return first


def run_here(item: CaseItem, nextitem: pytest.Item | None) -> Sequence[pytest.TestReport]:
    """In this process."""
    return runtestprotocol(item, log=False, nextitem=nextitem)


def _failed(reports: Sequence[pytest.TestReport]) -> bool:
    return any(report.failed for report in reports)


def _flaky(
    first: Sequence[pytest.TestReport], again: Sequence[pytest.TestReport], attempts: int
) -> Sequence[pytest.TestReport]:
    text = "\n".join(report.longreprtext for report in first if report.failed)
    for report in again:
        setattr(report, ATTEMPTS, attempts)
        report.user_properties.append(("flaky", f"failed, and passed at attempt {attempts}"))
        if report.when == "call":
            setattr(report, FIRST_FAILURE, text)
    return again
