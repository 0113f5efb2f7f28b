"""``--cb-resume``: continue the run of a results file. Tests that have a result in the file are not run again.

The results file of a run that was killed has no footer. If its last line is incomplete, the line is ignored.
"""

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.report.outcomes import PROBLEMS, Record, counts_of
from harness.report.plan import Plan, plan_from
from harness.report.reading import ResultsError, read_run
from harness.report.same_run import difference, plan_difference
from harness.utils.text import plural
from spyre_cb.options import CHECKS, ENGINE, OPTIONS

TO_START_AGAIN = "name another file, or leave out --cb-resume to run all tests again"


@dataclass(frozen=True)
class Earlier:
    """The tests of an earlier run that this run continues, by node id.

    The tests ``kept`` have a result, and do not run again. The tests ``killed`` were running when the earlier run, or a
    run that it continued, was killed.
    """

    kept: frozenset[str]
    killed: frozenset[str]


NOTHING = Earlier(frozenset(), frozenset())


@dataclass(frozen=True)
class EarlierRun:
    """The run that is resumed: its header, and the results that are kept, by test.

    ``killed`` has, for each test that was running when a run was killed, the number of times that this has happened.
    """

    path: Path
    header: Mapping[str, Any]
    results: Mapping[str, Record]
    killed: Mapping[str, int]

    @property
    def tests(self) -> Earlier:
        return Earlier(frozenset(self.results), frozenset(self.killed))

    def refuse_another(self, header: Mapping[str, Any]) -> None:
        """Raise pytest.UsageError if the current run is not the same as this earlier run.

        ``header`` is the header of the current run's results file. For example, the engine, the models, the options and
        the part of the tests (``--cb-shard``) must be the same. The lists of tests are compared only if both headers
        have one.
        """
        mine, its = (_part(each) for each in (header, self.header))
        what = f"this run is {mine}, and the file is of {its}" if mine != its else difference(self.header, header)
        self._refuse(what)

    def refuse_other_tests(self, plan: Plan) -> None:
        """Raise pytest.UsageError if the earlier run had other tests or suites than ``plan`` of the current run."""
        old = plan_from(self.header)
        self._refuse(plan_difference(old, plan) if old is not None else "")

    def _refuse(self, what: str) -> None:
        if what:
            raise pytest.UsageError(
                f"--cb-resume: {self.path} has the results of another run: {what}; {TO_START_AGAIN}"
            )


def _part(header: Mapping[str, Any]) -> str:
    shard = header.get("shard")
    return f"part {shard['part']} of {shard['of']}" if shard else "a run without --cb-shard"


def earlier_run(path: Path) -> EarlierRun | None:
    """Return the run of a results file. Return None if the file is empty or missing.

    Raises pytest.UsageError if it is not a results file.
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return None
    if not path.is_file():
        raise pytest.UsageError(f"--cb-resume: {path} is not a regular file, so it has no results to resume from")
    try:
        run = read_run(path)
    except ResultsError as error:
        raise pytest.UsageError(f"--cb-resume: {error}; {TO_START_AGAIN}") from error
    results = {str(result["test"]): result for result in run.results if "::" in str(result["test"])}
    killed: Counter[str] = Counter(run.header.get("killed", {}))
    if run.footer is None:
        killed.update(test for test in run.running if test not in results)
    return EarlierRun(path, run.header, results, {test: times for test, times in killed.items() if test not in results})


def plan_fields(option: Namespace, plan: Plan | None, earlier: EarlierRun | None) -> dict[str, Any]:
    """Return the fields of a results file's header that show whether two results files are of the same run.

    The fields have the options of engine and checks, the part of the tests (``--cb-shard``) and the plan. ``plan`` is
    None before the tests are collected. One more field has the tests that were running when an earlier run was killed.
    ``earlier`` is the run that this run continues, None if there is none.
    """
    shard = getattr(option, "cb_shard", None)
    given = {
        each.name: str(value)
        for each in OPTIONS
        if each.group in (ENGINE, CHECKS) and (value := getattr(option, each.dest, each.default)) != each.default
    }
    return {
        "options": given,
        "shard": {"part": shard.number, "of": shard.of} if shard else None,
        **(plan.as_data() if plan else {}),
        "killed": dict(earlier.killed) if earlier else {},
    }


class Resuming:
    """A pytest plugin in the main process (with xdist, the controller): reports which results of a run are kept.

    The run fails if one of these results is a failure.
    """

    def __init__(self, config: pytest.Config, run: EarlierRun) -> None:
        self._run = run
        self._allow_flaky = bool(config.option.cb_allow_flaky)

    def pytest_report_header(self) -> list[str]:
        results = self._run.results.values()
        counts = ", ".join(f"{number} {outcome}" for outcome, number in counts_of(results).items())
        kept = (
            f"{plural(len(results), 'test')} of {os.fspath(self._run.path)} {'is' if len(results) == 1 else 'are'} kept"
        )
        lines = [f"resumed: {kept}, and not run again{f' ({counts})' if counts else ''}"]
        for test, times in self._run.killed.items():
            lines.append(
                f"resumed: {test} runs again, after the other tests, because the run was killed "
                f"{plural(times, 'time')} while it was running"
            )
        return lines

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        fine = {"xpassed", *(["flaky"] if self._allow_flaky else [])}
        bad = [result for result in self._run.results.values() if result["outcome"] in set(PROBLEMS) - fine]
        if bad and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
