"""Make a workload smaller while it goes wrong in the same way, by trial: for engines that go wrong often.

Hypothesis shrinks the one failure it was stopped by; a survey has many, and shrinks each apart from the others.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from harness.checks.verdict import Verdict
from harness.search.chunked import ChunkedWorkload
from harness.search.numbers import AS_BUILT, towards
from harness.search.shrink_chunked import smaller_chunked, takes_of_chunked
from harness.search.workloads import Workload
from harness.second_opinion import PlannedRequest

MOST_TRIALS = 200
W = TypeVar("W", bound=Workload | ChunkedWorkload)


def manner(verdict: Verdict) -> str:
    """In which way something goes wrong: what is said of it, without its numbers."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def limits_that_matter(workload: Workload | ChunkedWorkload) -> tuple[str, ...]:
    """What a workload that was shrunk still takes, limits above all: without, it would not go wrong in this way."""
    if isinstance(workload, ChunkedWorkload):
        return takes_of_chunked(workload)
    return tuple(name for name, built in AS_BUILT.items() if getattr(workload.limits, name) != built)


def shrunk(workload: W, verdict: Verdict, judge: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """The smallest that was found within MOST_TRIALS, and what is said of it."""
    wrong, trials = manner(verdict), 0
    tried = {workload}
    again = True
    while again and trials < MOST_TRIALS:
        again = False
        for smaller in _SMALLER[type(workload)](workload):
            if smaller in tried:
                continue
            tried.add(smaller)
            trials += 1
            said = judge(smaller)
            if not said.passed and manner(said) == wrong:
                workload, verdict, again = smaller, said, True
                break
            if trials >= MOST_TRIALS:
                break
    return workload, verdict


def _smaller(workload: Workload) -> Iterator[Workload]:
    """Simpler ones, the boldest first: without a request, without a limit, then with smaller numbers."""
    requests = workload.requests
    for i in range(len(requests) if len(requests) > 1 else 0):
        yield _with(workload, [*requests[:i], *requests[i + 1 :]])
    for name, built in AS_BUILT.items():
        if getattr(workload.limits, name) != built:
            yield replace(workload, limits=replace(workload.limits, **{name: built}))
    if earliest := min(request.join_step for request in requests):
        yield _with(workload, [_earlier(request, earliest) for request in requests])
    for i, request in enumerate(requests):
        for simpler in _simpler(request):
            yield _with(workload, [*requests[:i], simpler, *requests[i + 1 :]])


def _with(workload: Workload, requests: list[PlannedRequest]) -> Workload:
    return replace(workload, requests=tuple(sorted(requests, key=lambda request: request.join_step)))


def _earlier(request: PlannedRequest, steps: int) -> PlannedRequest:
    abort = None if request.abort_step is None else request.abort_step - steps
    return replace(request, join_step=request.join_step - steps, abort_step=abort)


def _simpler(request: PlannedRequest) -> Iterator[PlannedRequest]:
    if request.abort_step is not None:
        yield replace(request, abort_step=None)
    for join in towards(request.join_step, 0):
        later = None if request.abort_step is None else request.abort_step - request.join_step + join
        yield replace(request, join_step=join, abort_step=later)
    if request.abort_step is not None:
        for abort in towards(request.abort_step, request.join_step):
            yield replace(request, abort_step=abort)
    for prompt in towards(request.prompt_length, 1):
        yield replace(request, prompt_length=prompt)
    for budget in towards(request.max_tokens, 1):
        yield replace(request, max_tokens=budget)


_SMALLER: Mapping[type, Callable[[Any], Iterator[Any]]] = {Workload: _smaller, ChunkedWorkload: smaller_chunked}
