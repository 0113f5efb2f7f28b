"""Make a workload smaller while it goes wrong in the same way, by trial: for engines that go wrong often.

Hypothesis shrinks the one failure it was stopped by; a survey has many, and shrinks each apart from the others.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.checks.verdict import Verdict
from harness.search.workloads import BATCH, BLOCKS, CONTEXT, Workload
from harness.second_opinion import PlannedRequest

MOST_TRIALS = 200
AS_BUILT = {
    "max_model_len": CONTEXT,
    "max_num_seqs": BATCH,
    "available_blocks": BLOCKS,
    "max_batch_tkv_limit": CONTEXT * BATCH,
}

Judge = Callable[[Workload], Verdict]


def manner(verdict: Verdict) -> str:
    """In which way something goes wrong: what is said of it, without its numbers."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def limits_that_matter(workload: Workload) -> tuple[str, ...]:
    """Which limits a workload that was shrunk still has: without them it would not go wrong in this way."""
    return tuple(name for name, built in AS_BUILT.items() if getattr(workload.limits, name) != built)


def shrunk(workload: Workload, verdict: Verdict, judge: Judge) -> tuple[Workload, Verdict]:
    """The smallest that was found within MOST_TRIALS, and what is said of it."""
    wrong, trials = manner(verdict), 0
    tried = {workload}
    again = True
    while again and trials < MOST_TRIALS:
        again = False
        for smaller in _smaller(workload):
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
    for join in _towards(request.join_step, 0):
        later = None if request.abort_step is None else request.abort_step - request.join_step + join
        yield replace(request, join_step=join, abort_step=later)
    if request.abort_step is not None:
        for abort in _towards(request.abort_step, request.join_step):
            yield replace(request, abort_step=abort)
    for prompt in _towards(request.prompt_length, 1):
        yield replace(request, prompt_length=prompt)
    for budget in _towards(request.max_tokens, 1):
        yield replace(request, max_tokens=budget)


def _towards(number: int, least: int) -> Iterator[int]:
    """Numbers between, the least first."""
    if number > least:
        yield from dict.fromkeys((least, (least + number) // 2, number - 1))
