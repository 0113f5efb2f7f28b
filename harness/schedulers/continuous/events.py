"""Find the events of the continuous scheduler that its step table does not show, with the model of the scheduler.

These are the reasons why requests wait, and how close they were to a limit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.schedulers.continuous.explain import planned_requests
from harness.schedulers.continuous.model import State, moments, obstacles
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.events import Event
from harness.suites.schema import Request
from harness.types import RequestSpec, Run, SchedulingLimits

_LIMITS = {"context": "max_model_len", "blocks": "available_blocks", "batch_tkv": "max_batch_tkv_limit"}


def rule_events(
    limits: SchedulingLimits, specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run
) -> Iterator[Event]:
    """Yield the events that follow from the rules. No limit may be None. Raises ValueError if the run is not valid."""
    for moment in moments(limits, planned_requests(specs, timings, run)):
        if moment.state.waiting and moment.state.running:
            yield from _admission(limits, moment.step + 1, moment.state)


def _admission(limits: SchedulingLimits, step: int, state: State) -> Iterator[Event]:
    """Yield why the head of the queue waits, or which limits it fits exactly.

    A limit is fitted exactly if the request would have to wait if the limit were smaller by one.
    """
    head, request = state.waiting[0]
    short = _short(limits, state, request)
    for condition in short:
        name = "remembered_refusal" if condition == "earlier refusal" else f"wait_for_{condition}"
        yield Event(step, name, head)  # type: ignore[arg-type]
    for condition, limit in _LIMITS.items():
        number = getattr(limits, limit)
        if not short and condition in _short(replace(limits, **{limit: number - 1}), state, request):
            yield Event(step, f"fits_{condition}_exactly", head)  # type: ignore[arg-type]
        if short == {condition} and not _short(replace(limits, **{limit: number + 1}), state, request):
            by = "over" if condition == "batch_tkv" else "short"
            yield Event(step, f"{condition}_{by}_by_one", head)  # type: ignore[arg-type]


def _short(limits: SchedulingLimits, state: State, request: PlannedRequest) -> set[str]:
    return {condition for condition, reason in obstacles(limits, state, request).items() if reason}
