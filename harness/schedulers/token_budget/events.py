"""What happened in a run by the rules of the token budget: what kept the head of the queue waiting, and by how much."""

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
    """Those that only the rules can tell."""
    for moment in moments(limits, options, planned_texts(specs, timings, run)):
        step = moment.row.step
        if moment.waits is not None:
            request, obstacle = moment.waits
            yield Event(step, _WAITS[obstacle.what], request)
            if obstacle.lacking == 1:
                yield Event(step, "blocks_short_by_one", request)
        yield from (Event(step, "fits_blocks_exactly", request) for request in moment.exact)
