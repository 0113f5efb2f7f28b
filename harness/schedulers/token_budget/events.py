"""Find the events of a token-budget run that the step table does not show, using the scheduler model.

These events say why requests wait, and how close they were to a limit.
"""

from collections.abc import Iterator, Sequence

from harness.schedulers.events import Event
from harness.schedulers.request_tokens import requests_with_tokens
from harness.schedulers.token_budget.model import predicted_steps
from harness.suites.schema import EventName, Request
from harness.types import RequestSpec, Run, SchedulingLimits, TokenBudgetSetup

_WAITS: dict[str, EventName] = {"batch": "wait_for_batch", "budget": "wait_for_budget", "blocks": "wait_for_blocks"}


def rule_events(
    limits: SchedulingLimits,
    options: TokenBudgetSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
) -> Iterator[Event]:
    """Yield the events of a run that only the scheduler model can find.

    No limit may be None except ``max_batch_tkv_limit``, which the token-budget scheduler does not have.

    Raises ValueError if the scheduler model can't predict the run.
    """
    for predicted in predicted_steps(limits, options, requests_with_tokens(specs, timings, run)):
        step = predicted.row.step
        if predicted.waits is not None:
            request, obstacle = predicted.waits
            yield Event(step, _WAITS[obstacle.what], request)
            if obstacle.lacking == 1:
                yield Event(step, "blocks_short_by_one", request)
        yield from (Event(step, "fits_blocks_exactly", request) for request in predicted.fits_exactly)
