"""Run an output case: check the generated tokens and the scheduler's invariants, without a step table."""

from dataclasses import replace

from harness.cases.blessing import bless_references
from harness.cases.test import Test, Verdicts
from harness.cases.workload import prepare
from harness.checks.steps import step_table_lines
from harness.drivers.base import Session
from harness.runs.plain_decodes import as_row, columns_of
from harness.suites.schema import OutputCase
from harness.types import Run, SchedulingLimits, Verdict


def run_output(test: Test, case: OutputCase, session: Session, limits: SchedulingLimits) -> Verdicts:
    """Prepare the case, run it and check it. ``limits`` are the effective limits of ``session``.

    Raises CaseError if the case has a mistake, CheckpointError if its model is not available, ReferenceMissingError if
    a reference output is missing and must not be computed, and ReferenceFileError if its file is damaged.
    """
    workload = prepare(test, case, limits)
    bless_references(test.blessing, workload.comparison)
    run = workload.run(session)
    verdicts = workload.check(run, session) if run.unfinished is None else [broken_off(run)]
    return workload.with_picture(verdicts, run)


def broken_off(run: Run, steps: Verdict | None = None) -> Verdict:
    """Return the failed verdict about a run in which the engine raised an error or did not finish all requests.

    ``steps`` is the verdict about the steps that were run, if they were compared with a step table.
    """
    assert run.unfinished is not None
    end = ("", *run.traceback) if run.traceback else ()
    if steps is None:
        last = step_table_lines(run.steps, {}, run.steps[-1].step, columns_of([as_row(run.steps[0])])[1:])
        return Verdict(False, run.unfinished, (*last, *end), data={"broken": True})
    then = () if steps.headline == run.unfinished else ("", f"and then {run.unfinished}")
    return replace(steps, details=(*steps.details, *then, *end), data={**steps.data, "broken": True})
