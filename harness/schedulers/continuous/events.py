"""Find the events of a run with the continuous scheduler that the step table does not show, using the scheduler model.

These events say why requests wait, and how close they were to a limit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.schedulers.continuous.model import State, obstacles, predicted_steps
from harness.schedulers.continuous.planned import PlannedRequest, planned_requests
from harness.schedulers.events import Event
from harness.suites.schema import Request
from harness.types import RequestSpec, Run, SchedulingLimits

_LIMITS = {"context": "max_model_len", "blocks": "available_blocks", "batch_tkv": "max_batch_tkv_limit"}


def rule_events(
    limits: SchedulingLimits, specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run
) -> Iterator[Event]:
    """Yield the events of a run that only the scheduler model can find. No limit may be None.

    Raises ValueError if the scheduler model can't predict the run.
    """
    for predicted in predicted_steps(limits, planned_requests(specs, timings, run)):
        if predicted.state.waiting and predicted.state.running:
            yield from _admission(limits, predicted.step + 1, predicted.state)


def _admission(limits: SchedulingLimits, step: int, state: State) -> Iterator[Event]:
    """Yield events about the admission of the head of the queue: why it waits, or which limits it fits exactly.

    A request fits a limit exactly if the request is admitted, but would have to wait with a limit smaller by one.
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
