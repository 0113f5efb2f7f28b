"""Run a scheduler-step case: compare its steps with the expected table, and check outputs and invariants.

With ``--cb-bless``, the observed steps are written as the expected table instead.
"""

from collections.abc import Sequence
from dataclasses import replace

from harness.cases.blessing import bless_references
from harness.cases.output import broken_off
from harness.cases.test import Test, Verdicts
from harness.cases.workload import Workload, prepare
from harness.checks.steps import check_steps
from harness.drivers.base import BLOCK_ACCOUNTING, Session
from harness.golden.tables import GoldenError, golden_path, read_golden
from harness.runs.plain_decodes import as_row
from harness.suites.schema import StepsCase
from harness.types import Run, SchedulingLimits, StepRow, Verdict, failures


def run_steps(test: Test, case: StepsCase, session: Session, limits: SchedulingLimits) -> Verdicts:
    """Prepare the case, run it and check it. ``limits`` are the effective limits of ``session``.

    Raises CaseError if the case has a mistake, CheckpointError if its model is not available, ReferenceMissingError or
    ReferenceFileError if a reference output is missing or its file is damaged, and GoldenError if the golden step table
    is missing or damaged.
    """
    workload = prepare(test, case, limits)
    bless_references(test.blessing, workload.comparison)
    run = workload.run(session)
    if run.unfinished is not None:
        return workload.with_picture([_broken_off(test, case, run)], run)
    others = workload.check(run, session)
    blocks = BLOCK_ACCOUNTING in test.capabilities
    if _is_blessed(test, case):
        steps = _bless(test, case, run, others, blocks=blocks)
    else:
        steps = _explained(check_steps(run, expected_rows(test, case), blocks=blocks), workload, run)
    return workload.with_picture([steps, *others], run)


def _is_blessed(test: Test, case: StepsCase) -> bool:
    """Return whether to write the golden table of the case from this run.

    With several configurations, only the first writes the table.
    """
    if case.expect.steps != "golden" or test.blessing is None:
        return False
    return golden_path(test.suite_path, case.id) not in test.blessing.done


def _bless(test: Test, case: StepsCase, run: Run, others: Sequence[Verdict], *, blocks: bool) -> Verdict:
    """Write the observed steps as the golden table of the case, if all other checks (``others``) passed."""
    assert test.blessing is not None
    if not blocks:
        return Verdict(False, "not blessed: a golden table needs block counts, which this driver can't observe")
    if failures(others):
        return Verdict(False, "not blessed: at least one other check of this case failed, see below")
    path = golden_path(test.suite_path, case.id)
    test.blessing.accept(path, test.suite_name, case.id, [as_row(step) for step in run.steps])
    return Verdict(True, f"blessed {path.name}")


def expected_rows(test: Test, case: StepsCase) -> Sequence[StepRow]:
    """Return the rows of the expected step table, from the suite file or the golden file.

    Raises GoldenError if the golden file is missing or damaged.
    """
    if case.expect.steps != "golden":
        return case.expect.steps
    return read_golden(golden_path(test.suite_path, case.id), test.bless_command, (test.suite_name, case.id))


def _broken_off(test: Test, case: StepsCase, run: Run) -> Verdict:
    """Return the failed verdict about a run in which the engine raised an error or did not finish all requests.

    If the case has a step table, the verdict also says how the steps that were run differ from the table.
    """
    try:
        steps = expected_rows(test, case)
    except GoldenError:
        return broken_off(run)  # Without a table, report only that the engine did not finish.
    return broken_off(run, check_steps(run, steps, blocks=BLOCK_ACCOUNTING in test.capabilities))


def _explained(verdict: Verdict, workload: Workload, run: Run) -> Verdict:
    """Return the verdict. If it failed, add what the scheduler's rules require at the first wrong step of this run."""
    first = verdict.data.get("first")
    explanation = None if first is None else workload.explain(run, first)
    return replace(verdict, details=(*verdict.details, f"by the rules, {explanation}")) if explanation else verdict
