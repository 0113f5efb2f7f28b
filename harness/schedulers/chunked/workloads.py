"""Random workloads of the chunked scheduler: prompts that begin like earlier texts, crowded where rules turn."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import ClassVar

from hypothesis import strategies as st

from harness.schedulers.chunked.model import explain, predict
from harness.schedulers.sizes import BATCH, BLOCKS, CONTEXT, Sizes
from harness.schedulers.texts import PlannedText, planned_texts
from harness.suites.prompts import Vocabulary, request_spec, simulated_spec
from harness.suites.schema import Prompt, Request
from harness.types import (
    ChunkingSetup,
    EngineSetup,
    RequestSpec,
    SchedulingLimits,
    StepRow,
    blocks_for,
)

CHUNKED_SIZES = Sizes(requests=5, prompt=400, budget=80, join_step=40)
CHUNKED_SIZES_ON_A_MODEL = Sizes(requests=4, prompt=260, budget=24, join_step=20)
BOUNDARY_PROMPTS = (1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 320, 384)
BOUNDARY_BUDGETS = (1, 2, 3, 63, 64, 65, 66)


@dataclass(frozen=True)
class SharingRequest:
    """A request; its prompt begins with the first ``shared`` tokens of the text of request ``of``, an earlier one.

    That text is the prompt of ``of`` and, beyond it, what it generates.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    of: int | None = None
    shared: int = 0
    stops_after: None = None


@dataclass(frozen=True)
class ChunkedWorkload:
    """Requests in the order in which they join, under limits that say all four numbers, and the scheduler's options."""

    limits: SchedulingLimits
    chunking: ChunkingSetup
    requests: tuple[SharingRequest, ...]
    scheduler: ClassVar[str] = "chunked"

    @cached_property
    def case_id(self) -> str:
        """A name made from the content, fit for a case. Random prompts are seeded by it, so they go with it."""
        content = repr((astuple(self.limits), astuple(self.chunking), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @property
    def options(self) -> ChunkingSetup:
        """The scheduler's options."""
        return self.chunking

    def setup(self, model: str) -> EngineSetup:
        """The engine it runs on."""
        return EngineSetup(model, "eager", 1, CONTEXT, BATCH, None, "chunked", self.chunking)

    def as_requests(self) -> tuple[Request, ...]:
        """The requests as a suite says them; what somebody goes on from is given in simulated_tokens."""
        return self._requests

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        pieces: list[list[tuple[str, int]]] = []
        continued: dict[int, tuple[int, ...]] = {}
        made = []
        for number, request in enumerate(self.requests):
            begin: list[tuple[str, int]] = []
            generated: tuple[int, ...] = ()
            if request.of is not None and request.shared:
                begin = _cut(pieces[request.of], request.shared)
                beyond = request.shared - self.requests[request.of].prompt_length
                if beyond > 0:
                    continued[request.of] = self._generated(request.of)
                    generated = continued[request.of][:beyond]
            own = request.prompt_length - sum(length for _, length in begin) - len(generated)
            tail = [(f"{self.case_id}-{number}", own)] if own else []
            # Text that goes on from generated tokens is not gone on from again: it would have to be spelled out.
            pieces.append(begin + (tail if not generated else []))
            made.append((begin, generated, tail))
        return tuple(
            Request(
                prompt=_prompt(begin, generated, tail),
                max_tokens=request.max_tokens,
                join_step=request.join_step,
                abort_step=request.abort_step,
                simulated_tokens=continued.get(number, ()),
            )
            for number, (request, (begin, generated, tail)) in enumerate(zip(self.requests, made, strict=True))
        )

    def _generated(self, number: int) -> tuple[int, ...]:
        source = random.Random(f"{self.case_id}/generated/{number}")
        return tuple(source.randrange(4, 2000) for _ in range(self.requests[number].max_tokens))

    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]:
        """The requests as a driver takes them; without a model's ``vocabulary`` tokens are numbers."""
        requests = self.as_requests()
        if vocabulary is None:
            return [simulated_spec(r, self.case_id, position, NUMBERS) for position, r in enumerate(requests)]
        return [request_spec(r, self.case_id, position, vocabulary) for position, r in enumerate(requests)]

    def expected(self) -> tuple[StepRow, ...]:
        """What the rules say: it depends on what is alike, not on which tokens that is."""
        return predict(self.limits, self.chunking, self._texts())

    def explain(self, step: int) -> str:
        """What step ``step`` does by the rules."""
        return explain(self.limits, self.chunking, self._texts(), step)

    def _texts(self) -> list[PlannedText]:
        return planned_texts(self.specs(None), self.as_requests(), None)


NUMBERS = Vocabulary(
    encode=lambda text: (),  # noqa: ARG005
    decode=lambda ids: "",  # noqa: ARG005
    visible=lambda ids: "",  # noqa: ARG005
    ordinary=tuple(range(4, 2000)),
    size=2048,
    eos_token_ids=frozenset(),
)


def _cut(pieces: Sequence[tuple[str, int]], length: int) -> list[tuple[str, int]]:
    kept = []
    for seed, count in pieces:
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


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[ChunkedWorkload]:  # noqa: ARG001
    """The workloads of a search. What a model generates is not known beforehand, so no prompt goes on from it."""
    return chunked_workloads(CHUNKED_SIZES_ON_A_MODEL if on_a_model else CHUNKED_SIZES, decoded=not on_a_model)


@st.composite
def chunked_workloads(draw: st.DrawFn, sizes: Sizes = CHUNKED_SIZES, *, decoded: bool = True) -> ChunkedWorkload:
    """Workloads that can be worked off. ``decoded``: prompts may go on from what another request generates."""
    drawn = draw(st.lists(_requests(sizes), min_size=1, max_size=sizes.requests))
    drawn.sort(key=lambda pair: pair[0].join_step)
    requests: list[SharingRequest] = []
    for request, (which, amount) in drawn:
        requests.append(_sharing(request, which, amount, requests, decoded=decoded))
    chunking = draw(_CHUNKINGS)
    return ChunkedWorkload(_limits(draw, requests), chunking, tuple(requests))


_CHUNKINGS = st.builds(
    ChunkingSetup,
    chunk_size=st.sampled_from((128, 64, 192)),
    enable_prefix_caching=st.sampled_from((True, True, True, False)),
    interleave=st.booleans(),
    long_output_priority=st.booleans(),
)
_AMOUNTS = st.sampled_from((None, None, "all", "all but one", 64, 128, 192, 256, 63, 65, 100, 127, 129, 200))


def _requests(sizes: Sizes) -> st.SearchStrategy[tuple[SharingRequest, tuple[int, int | str | None]]]:
    prompts = [length for length in BOUNDARY_PROMPTS if length <= sizes.prompt]
    budgets = [budget for budget in BOUNDARY_BUDGETS if budget <= sizes.budget]
    plain = st.builds(
        _request,
        st.sampled_from([*prompts * 20, *range(1, sizes.prompt + 1)]),
        st.sampled_from([*range(1, 13), *range(1, 13), *budgets, *range(1, sizes.budget + 1)]),
        st.sampled_from([*[0] * 20, *range(12), *range(sizes.join_step)]),
        st.sampled_from([*[None] * sizes.budget * 6, *range(sizes.budget)]),
    )
    return st.tuples(plain, st.tuples(st.integers(0, sizes.requests), _AMOUNTS))


def _request(prompt_length: int, max_tokens: int, join_step: int, aborted_after: int | None) -> SharingRequest:
    abort_step = None if aborted_after is None else join_step + aborted_after
    return SharingRequest(prompt_length, max_tokens, join_step, abort_step)


def _sharing(
    request: SharingRequest, which: int, amount: int | str | None, earlier: Sequence[SharingRequest], *, decoded: bool
) -> SharingRequest:
    """With a beginning of an earlier request's text, as far as that goes and can be spelled out."""
    if amount is None or not earlier:
        return request
    of = which % len(earlier)
    while (root := earlier[of].of) is not None and earlier[of].shared > earlier[root].prompt_length:
        of = root
    text = earlier[of].prompt_length + (earlier[of].max_tokens if decoded else 0)
    match amount:
        case "all":
            shared = text
        case "all but one":
            shared = text - 1
        case int():
            shared = amount
        case _:
            shared = 0
    return replace(request, of=of, shared=min(shared, text, request.prompt_length))


def _limits(draw: st.DrawFn, requests: Sequence[SharingRequest]) -> SchedulingLimits:
    """As built, or near what decides about these requests; everybody alone fits."""
    fewest = max(blocks_for(request.prompt_length + request.max_tokens) for request in requests)
    longest = max(request.prompt_length + request.max_tokens for request in requests)
    blocks = draw(st.sampled_from((BLOCKS, BLOCKS, *range(fewest, min(BLOCKS, fewest + 8) + 1))))
    beside = draw(st.sampled_from((0, 0, -1, 1, 20, 64)))
    batch_tkv = draw(st.sampled_from((CONTEXT * BATCH, CONTEXT * BATCH, 1, 2, 3, 4)))
    if batch_tkv <= BATCH:
        decided = draw(st.sampled_from(requests))
        batch_tkv = batch_tkv * (decided.prompt_length + draw(st.integers(1, decided.max_tokens))) + beside
    # A request that is the only one left must be able to decode to its end.
    batch_tkv = max(longest, min(batch_tkv, CONTEXT * BATCH))
    return SchedulingLimits(CONTEXT, draw(st.integers(1, BATCH)), blocks, batch_tkv)
