"""Generate random requests whose prompts begin with the same tokens, for schedulers with prefix caching."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from harness.schedulers.sizes import Sizes
from harness.suites.prompts import Vocabulary
from harness.suites.schema import Prompt, Request

BOUNDARY_PROMPTS = (1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 320, 384)
BOUNDARY_BUDGETS = (1, 2, 3, 63, 64, 65, 66)


@dataclass(frozen=True)
class SharingRequest:
    """A request whose prompt can begin with tokens of an earlier request.

    ``of`` is the number of the earlier request, None if no tokens are shared. ``shared`` is the number of tokens that
    are shared: the prompt begins with the first ``shared`` tokens of the earlier request. These are tokens of the
    earlier request's prompt and, if ``shared`` is more than this prompt has, tokens that the earlier request generates.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    of: int | None = None
    shared: int = 0
    stops_after: None = None


def as_requests(case_id: str, requests: Sequence[SharingRequest]) -> tuple[Request, ...]:
    """Convert the requests to the ``Request`` objects of a suite. ``case_id`` is the seed of random tokens.

    If a later prompt repeats generated tokens of a request, these tokens must be known in advance. They are chosen at
    random here, and become the ``simulated_tokens`` of the request.
    """
    # Each part of a prompt is (seed of the random tokens, number of tokens).
    parts: list[list[tuple[str, int]]] = []
    continued: dict[int, tuple[int, ...]] = {}
    made = []
    for number, request in enumerate(requests):
        begin: list[tuple[str, int]] = []
        generated: tuple[int, ...] = ()
        if request.of is not None and request.shared:
            begin = _cut(parts[request.of], request.shared)
            beyond = request.shared - requests[request.of].prompt_length
            if beyond > 0:
                continued[request.of] = _generated(case_id, request.of, requests[request.of].max_tokens)
                generated = continued[request.of][:beyond]
        own = request.prompt_length - sum(length for _, length in begin) - len(generated)
        tail = [(f"{case_id}-{number}", own)] if own else []
        # If a prompt repeats generated tokens, later prompts can share only what comes before these tokens. To share
        # more, the suite would have to list the token ids.
        parts.append(begin + (tail if not generated else []))
        made.append((begin, generated, tail))
    return tuple(
        Request(
            prompt=_prompt(begin, generated, tail),
            max_tokens=request.max_tokens,
            join_step=request.join_step,
            abort_step=request.abort_step,
            simulated_tokens=continued.get(number, ()),
        )
        for number, (request, (begin, generated, tail)) in enumerate(zip(requests, made, strict=True))
    )


def _generated(case_id: str, number: int, count: int) -> tuple[int, ...]:
    source = random.Random(f"{case_id}/generated/{number}")
    return tuple(source.randrange(4, 2000) for _ in range(count))


NUMBERS = Vocabulary(
    encode=lambda text: (),  # noqa: ARG005
    decode=lambda ids: "",  # noqa: ARG005
    visible=lambda ids: "",  # noqa: ARG005
    ordinary=tuple(range(4, 2000)),
    size=2048,
    eos_token_ids=frozenset(),
)


def _cut(parts: Sequence[tuple[str, int]], length: int) -> list[tuple[str, int]]:
    kept = []
    for seed, count in parts:
        if length > 0:
            kept.append((seed, min(count, length)))
        length -= count
    return kept


def _prompt(begin: Sequence[tuple[str, int]], generated: tuple[int, ...], tail: Sequence[tuple[str, int]]) -> Prompt:
    first = [Prompt(random_tokens=length, seed=seed) for seed, length in begin]
    middle = [Prompt(token_ids=generated)] if generated else []
    last = [Prompt(random_tokens=length, seed=seed) for seed, length in tail]
    parts = [*first, *middle, *last]
    return parts[0] if len(parts) == 1 else Prompt(parts=tuple(parts))


def sharing_requests(sizes: Sizes, *, decoded: bool) -> st.SearchStrategy[list[SharingRequest]]:
    """Return a hypothesis strategy for lists of requests. A list is in the order in which its requests join.

    With ``decoded``, prompts may repeat the generated tokens of another request.
    """
    drawn = st.lists(_requests(sizes), min_size=1, max_size=sizes.requests)
    return drawn.map(lambda pairs: _all_sharing(pairs, decoded=decoded))


def _all_sharing(
    drawn: Sequence[tuple[SharingRequest, tuple[int, int | str | None]]], *, decoded: bool
) -> list[SharingRequest]:
    requests: list[SharingRequest] = []
    for request, (which, amount) in sorted(drawn, key=lambda pair: pair[0].join_step):
        requests.append(_sharing(request, which, amount, requests, decoded=decoded))
    return requests


_AMOUNTS = st.sampled_from((None, None, "all", "all but one", 64, 128, 192, 256, 63, 65, 100, 127, 129, 200))


def _requests(sizes: Sizes) -> st.SearchStrategy[tuple[SharingRequest, tuple[int, int | str | None]]]:
    prompts = [length for length in BOUNDARY_PROMPTS if length <= sizes.prompt]
    budgets = [budget for budget in BOUNDARY_BUDGETS if budget <= sizes.max_tokens]
    plain = st.builds(
        _request,
        st.sampled_from([*prompts * 20, *range(1, sizes.prompt + 1)]),
        st.sampled_from([*range(1, 13), *range(1, 13), *budgets, *range(1, sizes.max_tokens + 1)]),
        st.sampled_from([*[0] * 20, *range(12), *range(sizes.join_step)]),
        st.sampled_from([*[None] * sizes.max_tokens * 6, *range(sizes.max_tokens)]),
    )
    return st.tuples(plain, st.tuples(st.integers(0, sizes.requests), _AMOUNTS))


def _request(prompt_length: int, max_tokens: int, join_step: int, aborted_after: int | None) -> SharingRequest:
    abort_step = None if aborted_after is None else join_step + aborted_after
    return SharingRequest(prompt_length, max_tokens, join_step, abort_step)


def _sharing(
    request: SharingRequest, which: int, amount: int | str | None, earlier: Sequence[SharingRequest], *, decoded: bool
) -> SharingRequest:
    """Return ``request`` with a prompt that begins with tokens of a request in ``earlier``.

    The index of the earlier request is ``which`` modulo the length of ``earlier``. A suite can't express that a prompt
    begins with tokens of a request whose own prompt has generated tokens of a third request. In this case, the third
    request is used in place of the earlier one. ``amount`` is the number of shared tokens: a number, ``all``,
    ``all but one``, or None for no tokens. With ``decoded``, the shared tokens can include generated tokens.
    """
    if amount is None or not earlier:
        return request
    of = which % len(earlier)
    while (root := earlier[of].of) is not None and earlier[of].shared > earlier[root].prompt_length:
        of = root
    length = earlier[of].prompt_length + (earlier[of].max_tokens if decoded else 0)
    match amount:
        case "all":
            shared = length
        case "all but one":
            shared = length - 1
        case int():
            shared = amount
        case _:
            shared = 0
    return replace(request, of=of, shared=min(shared, length, request.prompt_length))
