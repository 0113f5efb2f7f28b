"""The laws: three properties that the run of every random workload must have.

First, the steps are as predicted by the scheduler model, an independent implementation of the scheduling rules. Second,
no step violates an invariant of the scheduler. Third, the tokens of a request do not depend on the other requests in
the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.checks.output import check_alone
from harness.checks.steps import check_steps
from harness.drivers.base import Session
from harness.runs.plain_decodes import as_row
from harness.runs.runner import run_workload
from harness.schedulers import scheduler_named
from harness.schedulers.spec import Tokens, Workload
from harness.types import RequestSpec, Run, StepRow, Verdict


@dataclass(frozen=True)
class Trial:
    """A workload with its run. ``specs`` are the requests of the workload in the form that drivers take."""

    workload: Workload
    specs: Sequence[RequestSpec]
    run: Run


def try_workload(session: Session, workload: Workload, specs: Sequence[RequestSpec]) -> Trial:
    """Run a workload with its limits. ``specs`` are its requests in the form that drivers take.

    Raises ValueError if the engine can't run with the limits of the workload.
    """
    session.reset(workload.limits)
    return Trial(workload, specs, run_workload(session, specs, workload.requests))


def follows_the_rules(trial: Trial, *, blocks: bool = True) -> Verdict:
    """Check that every step of the trial's run is as the scheduler model predicts.

    With ``blocks`` False, block counts are not compared, for drivers that can't observe blocks.
    """
    workload = trial.workload
    generated = _generated(trial)
    expected = workload.expected(generated)
    seen = tuple(as_row(step) for step in trial.run.steps)
    wanted = expected if blocks else tuple(map(_without_blocks, expected))
    if trial.run.unfinished is None and seen == wanted:
        return Verdict(True, f"{len(seen) - 1} steps as predicted by the rules")
    verdict = check_steps(trial.run, expected, blocks=blocks)
    pairs = zip(seen, wanted, strict=False)
    first = next((a.step for a, b in pairs if a != b), min(len(seen), len(wanted)))
    why = f"by the rules: {workload.explain(first, generated)}"
    return replace(verdict, details=(*verdict.details, why))


def keeps_invariants(trial: Trial) -> Verdict:
    """Check that no step violates an invariant of the scheduler."""
    workload = trial.workload
    check = scheduler_named(workload.scheduler).check_invariants
    return check(trial.run, trial.specs, workload.as_requests(), workload.limits, workload.options)


def is_independent_of_batch(trial: Trial, session: Session) -> Verdict:
    """Check that each request got the same tokens as it gets without other requests in the batch.

    ``session`` runs every request again, alone and with the limits with which the engine was started.
    """
    specs = [spec.within(trial.workload.limits.max_model_len) for spec in trial.specs]
    for spec, request, tokens in zip(specs, trial.workload.as_requests(), trial.run.tokens, strict=True):
        verdict = check_alone(session, spec, tokens, aborted=request.abort_step is not None)
        if not verdict.passed:
            return verdict
    return Verdict(True, f"{len(trial.specs)} requests get the same tokens as without other requests in the batch")


def _generated(trial: Trial) -> Tokens | None:
    """Return the tokens that an LLM generated for each request. Return None if no LLM ran, or tokens were simulated."""
    if any(spec.simulated_token_ids for spec in trial.specs) or not any(trial.run.tokens):
        return None
    return [[token.token_id for token in tokens] for tokens in trial.run.tokens]


def _without_blocks(row: StepRow) -> StepRow:
    return row._replace(reserved=None if row.reserved is None else 0, used=0)
