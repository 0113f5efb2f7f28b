"""Explain what the rules of the token-budget scheduler require at a step of a case."""

from collections.abc import Sequence

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import requests_with_tokens
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
    """Return a phrase about what the rules require at step ``step``, None if the rules can't be applied to the run."""
    try:
        return explain(limits, options, requests_with_tokens(specs, timings, run), step)
    except ValueError:
        return None


def impossible(
    limits: SchedulingLimits,
    options: TokenBudgetSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
) -> str | None:
    """Return why the rules do not allow the requests to finish with these limits, None if they do."""
    try:
        predict(limits, options, requests_with_tokens(specs, timings, run))
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None
