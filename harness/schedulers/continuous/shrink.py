"""Shrink random workloads of the continuous scheduler that ``spyre-cb search`` found to fail."""

from collections.abc import Iterator
from dataclasses import replace

from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.continuous.workloads import Workload
from harness.schedulers.sizes import loosened, tightened, towards


def features(workload: Workload) -> tuple[str, ...]:
    """Return the names of the limits of ``workload`` that differ from the limits with which the engine is started."""
    return tightened(workload.limits)


def smaller(workload: Workload) -> Iterator[Workload]:
    """Yield copies of ``workload`` with one simplification each. The largest simplifications come first.

    A simplification leaves out one request, gives one limit its default value, or makes one number of a request
    smaller.
    """
    requests = workload.requests
    for i in range(len(requests) if len(requests) > 1 else 0):
        yield _with(workload, [*requests[:i], *requests[i + 1 :]])
    for limits in loosened(workload.limits):
        yield replace(workload, limits=limits)
    if earliest := min(request.join_step for request in requests):
        yield _with(workload, [_moved(request, -earliest) for request in requests])
    for i, request in enumerate(requests):
        for simpler in _simpler(request):
            yield _with(workload, [*requests[:i], simpler, *requests[i + 1 :]])


def _with(workload: Workload, requests: list[PlannedRequest]) -> Workload:
    return replace(workload, requests=tuple(sorted(requests, key=lambda request: request.join_step)))


def _moved(request: PlannedRequest, steps: int) -> PlannedRequest:
    abort = None if request.abort_step is None else request.abort_step + steps
    return replace(request, join_step=request.join_step + steps, abort_step=abort)


def _simpler(request: PlannedRequest) -> Iterator[PlannedRequest]:
    if request.abort_step is not None:
        yield replace(request, abort_step=None)
    for join in towards(request.join_step, 0):
        yield _moved(request, join - request.join_step)
    if request.abort_step is not None:
        for abort in towards(request.abort_step, request.join_step):
            yield replace(request, abort_step=abort)
    for prompt in towards(request.prompt_length, 1):
        yield replace(request, prompt_length=prompt)
    for budget in towards(request.max_tokens, 1):
        yield replace(request, max_tokens=budget)
