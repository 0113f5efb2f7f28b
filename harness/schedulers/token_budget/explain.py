"""Explain an expected step of the token-budget scheduler by its rules, with the numbers of the case."""

from collections.abc import Sequence

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.texts import planned_texts
from harness.schedulers.token_budget.model import explain, predict
from harness.suites.schema import Request
from harness.types import RequestSpec, Run, SchedulingLimits, TokenBudgetSetup


def by_the_rules(
    limits: SchedulingLimits,
    options: TokenBudgetSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
    step: int,
) -> str | None:
    """Return what step ``step`` of a workload does by the rules, None if that is not known."""
    try:
        return explain(limits, options, planned_texts(specs, timings, run), step)
    except ValueError:
        return None


def impossible(
    limits: SchedulingLimits,
    options: TokenBudgetSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
) -> str | None:
    """Return why no engine can finish this workload under these limits, None if the rules give no reason."""
    try:
        predict(limits, options, planned_texts(specs, timings, run))
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None
