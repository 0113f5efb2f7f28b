"""Shrink lists of requests whose prompts begin with the same tokens.

If a prompt begins with tokens of another request, a simplification of other properties does not change this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from harness.schedulers.sharing import SharingRequest
from harness.schedulers.sizes import towards

Requests = tuple[SharingRequest, ...]


def features_of(requests: Sequence[SharingRequest]) -> tuple[str, ...]:
    """Return the names of the features that the requests have: ``a shared beginning`` and ``an abort``."""
    shares = ("a shared beginning",) if any(request.shared for request in requests) else ()
    return (*shares, *(("an abort",) if any(request.abort_step is not None for request in requests) else ()))


def with_one_fewer(requests: Requests) -> Iterator[Requests]:
    """Yield copies of the list in which one request is missing."""
    for i in range(len(requests) if len(requests) > 1 else 0):
        yield _fitted(_without(requests, i))


def with_less(requests: Requests) -> Iterator[Requests]:
    """Yield copies of the list in which all requests join earlier, or one request is simpler."""
    if earliest := min(request.join_step for request in requests):
        yield _fitted([_moved(request, -earliest) for request in requests])
    for i, request in enumerate(requests):
        for simpler in _simpler(request):
            changed = [*requests[:i], simpler, *requests[i + 1 :]]
            if all(a.join_step <= b.join_step for a, b in pairwise(changed)):
                yield _fitted(changed)


def _without(requests: Sequence[SharingRequest], gone: int) -> list[SharingRequest]:
    """Return the list without the request at index ``gone``.

    A prompt that began with tokens of the removed request gets other tokens, which it shares with no request.
    """
    left = []
    for request in (*requests[:gone], *requests[gone + 1 :]):
        if request.of == gone:
            left.append(replace(request, of=None, shared=0))
        else:
            left.append(request if request.of is None or request.of < gone else replace(request, of=request.of - 1))
    return left


def _fitted(requests: Sequence[SharingRequest]) -> Requests:
    """Return the requests, with each ``shared`` reduced to what is possible.

    A request can't share more tokens than its prompt has, or than the earlier request has in prompt and answer.
    """
    fitted: list[SharingRequest] = []
    for request in requests:
        root = request if request.of is None else fitted[request.of]
        shared = min(request.shared, root.prompt_length + root.max_tokens, request.prompt_length)
        fitted.append(replace(request, shared=shared))
    return tuple(fitted)


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
