"""Generate random workloads for the chunked scheduler.

Prompts often begin with the same tokens, and sizes are often close to limits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import ClassVar

from hypothesis import strategies as st

from harness.schedulers.chunked.model import explain, predict
from harness.schedulers.request_tokens import RequestWithTokens, requests_with_tokens
from harness.schedulers.sharing import NUMBERS, SharingRequest, as_requests, sharing_requests
from harness.schedulers.sizes import BATCH, BLOCKS, CONTEXT, Sizes
from harness.suites.prompts import Vocabulary, request_spec, simulated_spec
from harness.suites.schema import Request
from harness.types import (
    ChunkingSetup,
    EngineSetup,
    RequestSpec,
    SchedulingLimits,
    StepRow,
    blocks_for,
)

CHUNKED_SIZES = Sizes(requests=5, prompt=400, max_tokens=80, join_step=40)
CHUNKED_SIZES_ON_A_MODEL = Sizes(requests=4, prompt=260, max_tokens=24, join_step=20)


@dataclass(frozen=True)
class ChunkedWorkload:
    """A workload: requests in the order in which they join, limits (none of which is None), and scheduler options."""

    limits: SchedulingLimits
    chunking: ChunkingSetup
    requests: tuple[SharingRequest, ...]
    scheduler: ClassVar[str] = "chunked"

    @property
    def options(self) -> ChunkingSetup:
        """Return the scheduler's options."""
        return self.chunking

    @cached_property
    def case_id(self) -> str:
        """Return the id for a case with this workload: ``found-`` and a hash of the workload.

        The id is also the seed of random prompts.
        """
        content = repr((astuple(self.limits), astuple(self.chunking), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def setup(self, model: str) -> EngineSetup:
        """Return the setup of the engine that runs the workload."""
        return EngineSetup(model, "eager", 1, CONTEXT, BATCH, None, "chunked", self.chunking)

    def as_requests(self) -> tuple[Request, ...]:
        """Convert the requests to the ``Request`` objects of a suite.

        If later prompts repeat the generated tokens of a request, these tokens are the ``simulated_tokens`` of the
        request.
        """
        return self._requests

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        return as_requests(self.case_id, self.requests)

    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]:
        """Return the requests in the form that drivers take.

        ``vocabulary`` is the vocabulary of the LLM. It is None if the engine runs no LLM; token ids are then arbitrary.
        """
        requests = self.as_requests()
        if vocabulary is None:
            return [simulated_spec(r, self.case_id, position, NUMBERS) for position, r in enumerate(requests)]
        return [request_spec(r, self.case_id, position, vocabulary) for position, r in enumerate(requests)]

    def expected(self, generated: object = None) -> tuple[StepRow, ...]:  # noqa: ARG002
        """Return the step table that the scheduler model predicts.

        The table depends on which tokens of the prompts are equal, but not on their ids. ``generated`` is not used.
        """
        return predict(self.limits, self.chunking, self._requests_with_tokens())

    def explain(self, step: int, generated: object = None) -> str:  # noqa: ARG002
        """Return a phrase about what the rules require at step ``step``. ``generated`` is not used."""
        return explain(self.limits, self.chunking, self._requests_with_tokens(), step)

    def _requests_with_tokens(self) -> list[RequestWithTokens]:
        return requests_with_tokens(self.specs(None), self.as_requests(), None)


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[ChunkedWorkload]:  # noqa: ARG001
    """Return the hypothesis strategy for workloads.

    If the engine runs an LLM (``on_a_model``), workloads are smaller, and prompts do not repeat generated tokens,
    because these are not known before the run.
    """
    return chunked_workloads(CHUNKED_SIZES_ON_A_MODEL if on_a_model else CHUNKED_SIZES, decoded=not on_a_model)


@st.composite
def chunked_workloads(draw: st.DrawFn, sizes: Sizes = CHUNKED_SIZES, *, decoded: bool = True) -> ChunkedWorkload:
    """Draw a workload that an engine can finish.

    With ``decoded``, prompts may repeat the generated tokens of another request.
    """
    requests = draw(sharing_requests(sizes, decoded=decoded))
    chunking = draw(_CHUNKINGS)
    return ChunkedWorkload(_limits(draw, requests), chunking, tuple(requests))


_CHUNKINGS = st.builds(
    ChunkingSetup,
    chunk_size=st.sampled_from((128, 64, 192)),
    enable_prefix_caching=st.sampled_from((True, True, True, False)),
    interleave=st.booleans(),
    long_output_priority=st.booleans(),
)


def _limits(draw: st.DrawFn, requests: Sequence[SharingRequest]) -> SchedulingLimits:
    """Draw limits that are the same as the engine's, or within a few blocks or tokens of what the requests need.

    Each request fits the limits if it runs alone.
    """
    fewest = max(blocks_for(request.prompt_length + request.max_tokens) for request in requests)
    longest = max(request.prompt_length + request.max_tokens for request in requests)
    blocks = draw(st.sampled_from((BLOCKS, BLOCKS, *range(fewest, min(BLOCKS, fewest + 8) + 1))))
    margin = draw(st.sampled_from((0, 0, -1, 1, 20, 64)))
    batch_tkv = draw(st.sampled_from((CONTEXT * BATCH, CONTEXT * BATCH, 1, 2, 3, 4)))
    if batch_tkv <= BATCH:
        decided = draw(st.sampled_from(requests))
        batch_tkv = batch_tkv * (decided.prompt_length + draw(st.integers(1, decided.max_tokens))) + margin
    # When only one request is left, it must be able to decode to its end.
    batch_tkv = max(longest, min(batch_tkv, CONTEXT * BATCH))
    return SchedulingLimits(CONTEXT, draw(st.integers(1, BATCH)), blocks, batch_tkv)
