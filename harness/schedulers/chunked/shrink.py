"""Smaller workloads of the chunked scheduler: what a request shares with another goes on being what it shares."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import pairwise

from harness.schedulers.chunked.workloads import ChunkedWorkload, SharingRequest
from harness.schedulers.sizes import loosened, tightened, towards
from harness.types import ChunkingSetup

DEFAULT = ChunkingSetup()


def takes(workload: ChunkedWorkload) -> tuple[str, ...]:
    """Limits and options that are not the usual ones, and what its requests do beside running to their ends."""
    options = (f.name for f in fields(DEFAULT) if getattr(workload.chunking, f.name) != getattr(DEFAULT, f.name))
    shares = ("a shared beginning",) if any(request.shared for request in workload.requests) else ()
    aborts = ("an abort",) if any(request.abort_step is not None for request in workload.requests) else ()
    return (*tightened(workload.limits), *options, *shares, *aborts)


def smaller(workload: ChunkedWorkload) -> Iterator[ChunkedWorkload]:
    """Simpler ones, the boldest first: without a request, with usual limits and options, then with smaller numbers."""
    requests = workload.requests
    for i in range(len(requests) if len(requests) > 1 else 0):
        yield _with(workload, _without(requests, i))
    for limits in loosened(workload.limits):
        yield replace(workload, limits=limits)
    for field in fields(DEFAULT):
        usual = getattr(DEFAULT, field.name)
        if getattr(workload.chunking, field.name) != usual:
            yield replace(workload, chunking=replace(workload.chunking, **{field.name: usual}))
    if earliest := min(request.join_step for request in requests):
        yield _with(workload, [_moved(request, -earliest) for request in requests])
    for i, request in enumerate(requests):
        for simpler in _simpler(request):
            changed = [*requests[:i], simpler, *requests[i + 1 :]]
            if all(a.join_step <= b.join_step for a, b in pairwise(changed)):
                yield _with(workload, changed)


def _without(requests: Sequence[SharingRequest], gone: int) -> list[SharingRequest]:
    """The others. Who shared with it shares with nobody, the rest with whom they shared."""
    left = []
    for request in (*requests[:gone], *requests[gone + 1 :]):
        if request.of == gone:
            left.append(replace(request, of=None, shared=0))
        else:
            left.append(request if request.of is None or request.of < gone else replace(request, of=request.of - 1))
    return left


def _with(workload: ChunkedWorkload, requests: Sequence[SharingRequest]) -> ChunkedWorkload:
    """With these requests; nobody shares more than there is."""
    fitted: list[SharingRequest] = []
    for request in requests:
        root = request if request.of is None else fitted[request.of]
        most = min(request.shared, root.prompt_length + root.max_tokens, request.prompt_length)
        fitted.append(replace(request, shared=most))
    return replace(workload, requests=tuple(fitted))


def _moved(request: SharingRequest, steps: int) -> SharingRequest:
    abort = None if request.abort_step is None else request.abort_step + steps
    return replace(request, join_step=request.join_step + steps, abort_step=abort)


def _simpler(request: SharingRequest) -> Iterator[SharingRequest]:
    if request.of is not None:
        yield replace(request, of=None, shared=0)
    if request.abort_step is not None:
        yield replace(request, abort_step=None)
        for abort in towards(request.abort_step, request.join_step):
            yield replace(request, abort_step=abort)
    for join in towards(request.join_step, 0):
        yield _moved(request, join - request.join_step)
    for shared in towards(request.shared, 0):
        yield replace(request, shared=shared)
    for prompt in towards(request.prompt_length, 1):
        yield replace(request, prompt_length=prompt)
    for budget in towards(request.max_tokens, 1):
        yield replace(request, max_tokens=budget)
