"""Generate random workloads for the token-budget scheduler.

Prompts often begin with the same tokens. There are few blocks and small budgets, so that requests wait and are
preempted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import ClassVar

from hypothesis import strategies as st

from harness.schedulers.request_tokens import RequestWithTokens, requests_with_tokens
from harness.schedulers.sharing import NUMBERS, SharingRequest, as_requests, sharing_requests
from harness.schedulers.sizes import BATCH, CONTEXT, Sizes
from harness.schedulers.spec import Tokens
from harness.schedulers.token_budget.model import explain, predict
from harness.suites.prompts import Vocabulary, request_spec, simulated_spec
from harness.suites.schema import Request
from harness.types import (
    EngineSetup,
    RequestSpec,
    SchedulingLimits,
    StepRow,
    TokenBudgetRules,
    TokenBudgetSetup,
    blocks_for,
)

BLOCKS = blocks_for(CONTEXT * BATCH)
"""Number of blocks of the engine, which is enough for a full batch."""
SIZES = Sizes(requests=6, prompt=300, max_tokens=90, join_step=40)
SIZES_ON_A_MODEL = Sizes(requests=5, prompt=200, max_tokens=66, join_step=10)
EXTRA_BLOCKS, EXTRA_BLOCKS_ON_A_MODEL = 6, 2
"""Maximum number of blocks in addition to those that the longest request needs. It is small, to cause preemptions."""
BEYOND_PROMPTS = 1_000_000
"""Added to the ids of tokens that an LLM generated, so that they differ from all token ids in prompts."""
BUDGETS = (512, 512, 64, 65, 100, 127, 128, 129, 192, 256, 40)
"""Values of max_num_batched_tokens. With 512, every prompt fits into one step without chunked prefill."""
THRESHOLDS = (0, 0, 0, 0, 24, 32, 63, 64, 65, 100)


@dataclass(frozen=True)
class TokenBudgetWorkload:
    """A workload: requests in the order in which they join, limits, and scheduler options.

    No limit is None except ``max_batch_tkv_limit``, which this scheduler does not have.
    """

    limits: SchedulingLimits
    options: TokenBudgetSetup
    requests: tuple[SharingRequest, ...]
    scheduler: ClassVar[str] = "token_budget"

    @cached_property
    def case_id(self) -> str:
        """Return the id for a case with this workload: ``found-`` and a hash of the workload.

        The id is also the seed of random prompts.
        """
        content = repr((astuple(self.limits), astuple(self.options), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def setup(self, model: str) -> EngineSetup:
        """Return the setup of the engine that runs the workload."""
        return EngineSetup(model, "eager", 1, CONTEXT, BATCH, None, self.scheduler, self.options)

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

        ``vocabulary`` is the vocabulary of the LLM. It is None if the engine runs no LLM. Then token ids are arbitrary,
        and every request has simulated tokens, because a preempted request can find its own generated tokens in the
        prefix cache.
        """
        requests = self.as_requests()
        if vocabulary is not None:
            return [request_spec(r, self.case_id, position, vocabulary) for position, r in enumerate(requests)]
        specs = [simulated_spec(r, self.case_id, position, NUMBERS) for position, r in enumerate(requests)]
        return [spec if spec.simulated_token_ids else replace(spec, simulated_token_ids=_own(spec)) for spec in specs]

    def expected(self, generated: Tokens | None = None) -> tuple[StepRow, ...]:
        """Return the step table that the scheduler model predicts.

        The table depends on which tokens are equal, but not on their ids. ``generated`` are the tokens that an LLM
        generated for the requests, None if no LLM ran. Without an LLM, no two requests generate the same tokens. With
        an LLM, requests with equal prompts generate equal tokens, so a request can find blocks in the prefix cache that
        have generated tokens of another request.
        """
        return predict(self.limits, self.options, self._requests_with_tokens(generated))

    def explain(self, step: int, generated: Tokens | None = None) -> str:
        """Return a phrase about what the rules require at step ``step``.

        ``generated`` are the tokens that an LLM generated for the requests, None if no LLM ran.
        """
        return explain(self.limits, self.options, self._requests_with_tokens(generated), step)

    def _requests_with_tokens(self, generated: Tokens | None) -> list[RequestWithTokens]:
        specs = self.specs(None)
        if generated is not None:
            given = [tuple(BEYOND_PROMPTS + token for token in tokens) for tokens in generated]
            specs = [replace(spec, simulated_token_ids=g) for spec, g in zip(specs, given, strict=True)]
        return requests_with_tokens(specs, self.as_requests(), None)


def _own(spec: RequestSpec) -> tuple[int, ...]:
    """Return the token ids that a request generates: ids that no other request generates and no prompt contains."""
    first = 2048 + spec.request_id * 1024
    return tuple(range(first, first + spec.max_tokens))


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[TokenBudgetWorkload]:  # noqa: ARG001
    """Return the hypothesis strategy for workloads.

    If the engine runs an LLM (``on_a_model``), workloads are smaller, and prompts do not repeat generated tokens,
    because these are not known before the run.
    """
    if on_a_model:
        return token_budget_workloads(SIZES_ON_A_MODEL, decoded=False, extra_blocks=EXTRA_BLOCKS_ON_A_MODEL)
    return token_budget_workloads(SIZES)


@st.composite
def token_budget_workloads(
    draw: st.DrawFn,
    sizes: Sizes = SIZES,
    *,
    decoded: bool = True,
    extra_blocks: int = EXTRA_BLOCKS,
    rules: Sequence[TokenBudgetRules] = ("0.27", "0.32"),
) -> TokenBudgetWorkload:
    """Draw a workload in which each request alone fits into the KV cache.

    With ``decoded``, prompts may repeat the generated tokens of another request. A workload has either all blocks of
    the engine, or at most ``extra_blocks`` more than the longest request needs.
    """
    requests = draw(sharing_requests(sizes, decoded=decoded))
    chunks = draw(st.sampled_from((True, True, True, False)))
    options = TokenBudgetSetup(
        draw(st.sampled_from(BUDGETS)) if chunks else CONTEXT,
        chunks,
        draw(st.sampled_from((True, True, False))),
        draw(st.sampled_from(THRESHOLDS)),
        draw(st.sampled_from(tuple(rules))),
    )
    return TokenBudgetWorkload(_limits(draw, requests, extra_blocks), options, tuple(requests))


def _limits(draw: st.DrawFn, requests: Sequence[SharingRequest], extra_blocks: int) -> SchedulingLimits:
    """Draw limits that are the same as the engine's, or have so few blocks that running requests can be preempted.

    Each request fits the limits if it runs alone.
    """
    fewest = max(blocks_for(request.prompt_length + request.max_tokens - 1) for request in requests)
    blocks = draw(st.sampled_from((BLOCKS, *range(fewest, min(BLOCKS, fewest + extra_blocks) + 1))))
    return SchedulingLimits(CONTEXT, draw(st.sampled_from((BATCH, BATCH, BATCH, 3, 2, 1))), blocks)
