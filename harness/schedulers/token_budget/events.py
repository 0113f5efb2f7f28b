"""Find the events of the token-budget scheduler that its step table does not show, with the model of the scheduler.

These are the reasons why requests wait, and how close they were to a limit.
"""

from collections.abc import Iterator, Sequence

from harness.schedulers.events import Event
from harness.schedulers.texts import planned_texts
from harness.schedulers.token_budget.model import moments
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
    """Yield the events that follow from the rules. No limit may be None. Raises ValueError if the run is not valid."""
    for moment in moments(limits, options, planned_texts(specs, timings, run)):
        step = moment.row.step
        if moment.waits is not None:
            request, obstacle = moment.waits
            yield Event(step, _WAITS[obstacle.what], request)
            if obstacle.lacking == 1:
                yield Event(step, "blocks_short_by_one", request)
        yield from (Event(step, "fits_blocks_exactly", request) for request in moment.exact)
