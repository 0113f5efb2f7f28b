"""Run an output case: its outputs and the invariants, without a step table."""

from dataclasses import replace

from harness.cases.blessing import bless_references
from harness.cases.test import Test, Verdicts
from harness.cases.workload import prepare
from harness.checks.steps import step_table_lines
from harness.drivers.base import Session
from harness.runs.step_table import as_row, columns_of
from harness.suites.schema import OutputCase
from harness.types import Run, SchedulingLimits, Verdict


def run_output(test: Test, case: OutputCase, session: Session, limits: SchedulingLimits) -> Verdicts:
    """Prepare the case, run it and check it. ``limits`` are the effective limits.

    Raises CaseError, CheckpointError, ReferenceMissingError and ReferenceFileError.
    """
    workload = prepare(test, case, limits)
    bless_references(test.blessing, workload.comparison)
    run = workload.run(session)
    verdicts = workload.check(run, session) if run.unfinished is None else [broken_off(run)]
    return workload.with_picture(verdicts, run)


def broken_off(run: Run, steps: Verdict | None = None) -> Verdict:
    """Return the verdict for an engine that failed or did not finish.

    ``steps``: its first wrong step before, if known.
    """
    assert run.unfinished is not None
    end = ("", *run.traceback) if run.traceback else ()
    if steps is None:
        last = step_table_lines(run.steps, {}, run.steps[-1].step, columns_of([as_row(run.steps[0])])[1:])
        return Verdict(False, run.unfinished, (*last, *end), data={"broken": True})
    then = () if steps.headline == run.unfinished else ("", f"and then {run.unfinished}")
    return replace(steps, details=(*steps.details, *then, *end), data={**steps.data, "broken": True})
