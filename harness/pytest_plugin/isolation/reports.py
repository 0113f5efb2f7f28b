"""Send pytest's reports of cases between processes, and create reports for cases whose process crashed or hung."""

import time
from typing import Any

import pytest

from harness.cases.failure_text import broken_text
from harness.pytest_plugin.failure_repr import FailureRepr
from harness.pytest_plugin.isolation.messages import Broken
from harness.pytest_plugin.isolation.stacks import without_pytest
from harness.pytest_plugin.items import CaseItem

LAST_LINES = 12
_FAILURE = "spyre_cb_failure"
_NOISE = "Extension modules: "
"""Beginning of the line with all extension modules that faulthandler prints when a process dies of a signal."""


class FailuresTravel:
    """A pytest plugin that adds the text of a failed case to a serialized report. pytest alone would drop the text."""

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self, report: object) -> Any:
        data = yield
        failure = getattr(report, "longrepr", None)
        if data is not None and isinstance(failure, FailureRepr):
            data[_FAILURE] = failure.as_data()
        return data

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self, data: dict[str, Any]) -> Any:
        failure = data.pop(_FAILURE, None)
        report = yield
        if failure is not None:
            report.longrepr = FailureRepr(**failure)
        return report


def reports_of(item: CaseItem, broken: Broken, seconds: float) -> list[pytest.TestReport]:
    """Return pytest's reports of a case that was not run to its end, with the outcome failed.

    If the case has the marker ``xfail``, the outcome is xfailed. ``seconds`` is the duration of the case.
    """
    expected = item.get_closest_marker("xfail")
    call = _report(item, "call", "failed", seconds)
    text = broken_text(item.expanded, item.place, broken.what, _more(broken))
    call.longrepr = FailureRepr(broken.what, text, str(item.path), item.line)
    call.sections = [
        (f"Captured {name} call", text) for name, text in (("stdout", broken.stdout), ("stderr", broken.stderr)) if text
    ]
    if expected is not None:
        call.outcome = "skipped"
        call.wasxfail = str(expected.kwargs.get("reason", ""))
    return [_report(item, "setup", "passed"), call, _report(item, "teardown", "passed")]


def _more(broken: Broken) -> list[str]:
    out, err = (_last(text) for text in (broken.stdout, broken.stderr))
    last = ["", "last output:", "", *out, *err] if out or err else []
    return [*(["", *broken.more] if broken.more else []), *last]


def _last(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_NOISE)]
    return [f"  {line}" for line in without_pytest(lines)[-LAST_LINES:]]


def _report(item: CaseItem, when: Any, outcome: Any, seconds: float = 0.0) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=None,
        when=when,
        duration=seconds,
        start=time.time() - seconds,
        stop=time.time(),
        user_properties=list(item.user_properties),
    )
