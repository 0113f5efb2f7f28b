"""Replace pytest's hook that runs a test, for cases: run them in another process, or repeat them after a failure."""

from collections.abc import Callable, Sequence

import pytest
from _pytest.runner import runtestprotocol  # pytest's public API has no way to run an item and get its reports.

from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.results import ATTEMPTS, FIRST_FAILURE

Run = Callable[[CaseItem, pytest.Item | None], Sequence[pytest.TestReport]]
"""Type of a function that runs a case and returns pytest's reports of its setup, call and teardown.

The second argument is the item that runs next. The function tears down the fixtures that this item does not need.
"""


class CaseProtocol:
    """A pytest plugin in pytest's process and in xdist's workers: runs cases with ``run``, and repeats failed cases.

    ``retries`` is the maximum number of repetitions of a failed case (``--cb-retries``), 0 for none.
    """

    def __init__(self, run: Run, retries: int) -> None:
        self._run = run
        self._retries = retries

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not isinstance(item, CaseItem):
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._with_retries(item, nextitem):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _with_retries(self, item: CaseItem, nextitem: pytest.Item | None) -> Sequence[pytest.TestReport]:
        """Run a case, and repeat it until it passes or there are no retries left. Return the reports of one attempt.

        If a repetition passes, the reports are those of this repetition, with the text of the first failure attached.
        Otherwise the reports are those of the first attempt. A known failure is not repeated.
        """
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
    """Run a case in this process, as pytest does, and return its reports."""
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
