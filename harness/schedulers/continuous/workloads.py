"""Generate random workloads for the continuous scheduler, often with lengths and limits close to multiples of 64."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import ClassVar

from hypothesis import strategies as st

from harness.schedulers.continuous.model import explain, predict
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.sizes import BATCH, BLOCKS, CONTEXT, Sizes
from harness.suites.prompts import Vocabulary, nameless_spec, request_spec
from harness.suites.schema import Prompt, Request
from harness.types import BLOCK_SIZE, EngineSetup, RequestSpec, SchedulingLimits, StepRow, blocks_for

BOUNDARY_LENGTHS = (1, 64, 65, 63, 128, 129, 127)
BOUNDARY_BUDGETS = (1, 2, 3, 64, 65, 66, 63, 128, 129)


MADE_UP_TOKEN = -1
"""The token that an engine without an LLM generates. As a stop token, it ends a request after ``min_tokens`` tokens."""


@dataclass(frozen=True)
class Workload:
    """A workload: requests in the order in which they join, and limits (none of which is None)."""

    limits: SchedulingLimits
    requests: tuple[PlannedRequest, ...]
    scheduler: ClassVar[str] = "continuous"
    options: ClassVar[None] = None

    @property
    def case_id(self) -> str:
        """Return the id for a case with this workload: ``found-`` and a hash of the workload.

        The id is also the seed of random prompts.
        """
        content = repr((astuple(self.limits), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def as_requests(self) -> tuple[Request, ...]:
        """Convert the requests to the ``Request`` objects of a suite, with random prompts.

        A request with ``stops_after`` gets a stop token, so that it counts as a request that can end before
        ``max_tokens``.
        """
        return tuple(
            Request(
                prompt=Prompt(random_tokens=request.prompt_length),
                max_tokens=request.max_tokens,
                join_step=request.join_step,
                abort_step=request.abort_step,
                stop_token_ids=() if request.stops_after is None else (0,),
            )
            for request in self.requests
        )

    def setup(self, model: str) -> EngineSetup:
        """Return the setup of the engine that runs the workload."""
        return setup_for_search(model)

    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]:
        """Return the requests in the form that drivers take.

        ``vocabulary`` is the vocabulary of the LLM. It is None if the engine runs no LLM; all token ids are then equal.
        """
        requests = self.as_requests()
        if vocabulary is not None:
            name = self.case_id
            return [request_spec(r, name, position, vocabulary) for position, r in enumerate(requests)]
        specs = [nameless_spec(request, position) for position, request in enumerate(requests)]
        return [
            spec
            if planned.stops_after is None
            else replace(spec, stop_token_ids=(MADE_UP_TOKEN,), min_tokens=planned.stops_after)
            for spec, planned in zip(specs, self.requests, strict=True)
        ]

    def expected(self, generated: object = None) -> tuple[StepRow, ...]:  # noqa: ARG002
        """Return the step table that the scheduler model predicts."""
        return predict(self.limits, self.requests)

    def explain(self, step: int, generated: object = None) -> str:  # noqa: ARG002
        """Return a phrase about what the rules require at step ``step``. ``generated`` is not used."""
        return explain(self.limits, self.requests, step)


def setup_for_search(model: str) -> EngineSetup:
    """Return the setup of the engine that runs all workloads of a search, one after the other."""
    return EngineSetup(model, "eager", 1, CONTEXT, BATCH)


SIZES = Sizes()
# Workloads are smaller if an LLM runs, because every step needs a forward pass, and each request is run again alone.
SIZES_ON_A_MODEL = Sizes(requests=4, prompt=140, max_tokens=70, join_step=40)


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[Workload]:
    """Return the hypothesis strategy for workloads. They are smaller if the engine runs an LLM (``on_a_model``).

    With ``early_stops``, some requests end before ``max_tokens``.
    """
    return workloads(SIZES_ON_A_MODEL if on_a_model else SIZES, early_stops=early_stops)


@st.composite
def workloads(draw: st.DrawFn, sizes: Sizes = SIZES, *, early_stops: bool = False) -> Workload:
    """Draw a workload that an engine can finish, because each request alone fits into the available blocks."""
    requests = draw(_lists_of_requests(sizes, early_stops))
    requests.sort(key=lambda request: request.join_step)
    return Workload(_limits(draw, requests), tuple(requests))


# hypothesis shrinks one draw at a time. It can remove a whole request only if the request has few draws, whose simplest
# choices come first. Therefore each number is one ``sampled_from``, in which important values occur many times.


@lru_cache
def _lists_of_requests(sizes: Sizes, early_stops: bool) -> st.SearchStrategy[list[PlannedRequest]]:
    """Return the strategy for lists of requests. It is cached, because creating it takes longer than a draw."""
    aborts = [*[None] * sizes.max_tokens * 4, *range(sizes.max_tokens)]
    request = st.builds(
        _request,
        prompt_length=_crowded(BOUNDARY_LENGTHS, sizes.prompt),
        max_tokens=_crowded(BOUNDARY_BUDGETS, sizes.max_tokens),
        join_step=st.sampled_from([*[0] * sizes.join_step, *[*range(20)] * 6, *range(sizes.join_step)]),
        aborted_after=st.sampled_from(aborts),
        stops_after=st.none() | st.integers(1, sizes.max_tokens) if early_stops else st.none(),
    )
    return st.lists(request, min_size=1, max_size=sizes.requests)


def _request(
    prompt_length: int, max_tokens: int, join_step: int, aborted_after: int | None, stops_after: int | None
) -> PlannedRequest:
    return PlannedRequest(
        prompt_length,
        max_tokens,
        join_step,
        abort_step=None if aborted_after is None else join_step + aborted_after,
        stops_after=None if stops_after is None else min(stops_after, max_tokens),
    )


def _crowded(boundaries: Sequence[int], largest: int) -> st.SearchStrategy[int]:
    """Return a strategy for numbers from 1 to ``largest``.

    A third of the numbers are from ``boundaries``, a third are at most 12, and a third are arbitrary.
    """
    near = [b for b in boundaries if b <= largest]
    small = range(1, min(largest, 12) + 1)
    return st.sampled_from(
        [*near * (largest // len(near)), *[*small] * (largest // len(small)), *range(1, largest + 1)]
    )


_BATCHES = st.sampled_from(range(BATCH, 0, -1))
_AS_BUILT_OR_NOT = st.sampled_from(("as built", "near", "any"))
_CONTEXTS = st.integers(1, CONTEXT)
_BATCH_TKV = st.integers(1, CONTEXT * BATCH)
_SPARE_BLOCKS = st.integers(0, 8)
_LARGEST_OR_LEAST = st.sampled_from((max, min))
_SIZES_OF_BATCHES = st.integers(1, BATCH)
_MORE_BLOCKS = st.integers(0, 1)
_BESIDE = st.sampled_from((0, -1, 1))


def _limits(draw: st.DrawFn, requests: Sequence[PlannedRequest]) -> SchedulingLimits:
    """Draw limits, each equal to the engine's limit, arbitrary, or close to what the requests need."""
    context, batch_tkv, blocks = CONTEXT, CONTEXT * BATCH, BLOCKS
    seqs = draw(_BATCHES)
    match draw(_AS_BUILT_OR_NOT):
        case "near":
            context = _near(draw, requests)
        case "any":
            context = draw(_CONTEXTS)
    match draw(_AS_BUILT_OR_NOT):
        case "near":
            batch_tkv = draw(_SIZES_OF_BATCHES) * (_near(draw, requests) - 1) + draw(_BESIDE)
        case "any":
            batch_tkv = draw(_BATCH_TKV)
    if draw(_AS_BUILT_OR_NOT) != "as built":
        fewest = max(blocks_for(_end(request) - 1) for request in requests)
        blocks = min(BLOCKS, fewest + draw(_SPARE_BLOCKS))
    return SchedulingLimits(_between(1, context, CONTEXT), seqs, blocks, _between(1, batch_tkv, CONTEXT * BATCH))


def _near(draw: st.DrawFn, requests: Sequence[PlannedRequest]) -> int:
    """Draw a ``max_model_len`` close to the one that the longest or the shortest of the requests needs."""
    end = draw(_LARGEST_OR_LEAST)(_end(request) for request in requests)
    return end + draw(_MORE_BLOCKS) * BLOCK_SIZE + draw(_BESIDE)


def _between(smallest: int, number: int, largest: int) -> int:
    return max(smallest, min(number, largest))


def _end(request: PlannedRequest) -> int:
    """Return the ``max_model_len`` that a request needs if it runs alone."""
    return blocks_for(request.prompt_length) * BLOCK_SIZE + request.max_tokens
