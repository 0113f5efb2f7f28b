"""Random workloads of the token-budget scheduler: prompts with shared beginnings, few blocks, small budgets."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import ClassVar

from hypothesis import strategies as st

from harness.schedulers.sharing import NUMBERS, SharingRequest, as_requests, sharing_requests
from harness.schedulers.sizes import BATCH, CONTEXT, Sizes
from harness.schedulers.texts import PlannedText, planned_texts
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
"""Number of blocks of an engine of this shape: those of a full batch."""
SIZES = Sizes(requests=6, prompt=300, budget=90, join_step=40)
SIZES_ON_A_MODEL = Sizes(requests=5, prompt=200, budget=40, join_step=20)
BUDGETS = (512, 512, 64, 65, 100, 127, 128, 129, 192, 256, 40)
"""Token budgets of a step. With 512 every prompt fits, also without chunks."""
THRESHOLDS = (0, 0, 0, 0, 24, 32, 63, 64, 65, 100)


@dataclass(frozen=True)
class TokenBudgetWorkload:
    """Requests in the order in which they join, with all three limits given, and the scheduler's options."""

    limits: SchedulingLimits
    options: TokenBudgetSetup
    requests: tuple[SharingRequest, ...]
    scheduler: ClassVar[str] = "token_budget"

    @cached_property
    def case_id(self) -> str:
        """Return a case id derived from the content. Random prompts are seeded by it, so they depend on the content."""
        content = repr((astuple(self.limits), astuple(self.options), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def setup(self, model: str) -> EngineSetup:
        """Return the setup of the engine that runs the workload."""
        return EngineSetup(model, "eager", 1, CONTEXT, BATCH, None, self.scheduler, self.options)

    def as_requests(self) -> tuple[Request, ...]:
        """Return the requests in suite form.

        Generated tokens that other prompts repeat are given as simulated_tokens.
        """
        return self._requests

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        return as_requests(self.case_id, self.requests)

    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]:
        """Return the requests in the form that drivers take; without ``vocabulary``, tokens are arbitrary numbers.

        Without a model the tokens of every request are given, because a preempted request may find its own in the
        cache.
        """
        requests = self.as_requests()
        if vocabulary is not None:
            return [request_spec(r, self.case_id, position, vocabulary) for position, r in enumerate(requests)]
        specs = [simulated_spec(r, self.case_id, position, NUMBERS) for position, r in enumerate(requests)]
        return [spec if spec.simulated_token_ids else replace(spec, simulated_token_ids=_own(spec)) for spec in specs]

    def expected(self) -> tuple[StepRow, ...]:
        """Return the rows predicted by the model.

        They depend on which tokens are equal, not on the tokens themselves.
        """
        return predict(self.limits, self.options, self._texts())

    def explain(self, step: int) -> str:
        """Return what step ``step`` does by the rules."""
        return explain(self.limits, self.options, self._texts(), step)

    def _texts(self) -> list[PlannedText]:
        return planned_texts(self.specs(None), self.as_requests(), None)


def _own(spec: RequestSpec) -> tuple[int, ...]:
    """Return tokens that no other request generates and no prompt contains."""
    first = 2048 + spec.request_id * 1024
    return tuple(range(first, first + spec.max_tokens))


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[TokenBudgetWorkload]:  # noqa: ARG001
    """Return the strategy of a search.

    Prompts do not repeat generated tokens, which are unknown beforehand on a model.
    """
    return token_budget_workloads(SIZES_ON_A_MODEL if on_a_model else SIZES, decoded=not on_a_model)


@st.composite
def token_budget_workloads(
    draw: st.DrawFn, sizes: Sizes = SIZES, *, decoded: bool = True, rules: Sequence[TokenBudgetRules] = ("0.27", "0.32")
) -> TokenBudgetWorkload:
    """Draw workloads of which each request alone fits.

    ``decoded``: prompts may repeat another request's generated tokens.
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
    return TokenBudgetWorkload(_limits(draw, requests), options, tuple(requests))


def _limits(draw: st.DrawFn, requests: Sequence[SharingRequest]) -> SchedulingLimits:
    """Draw limits: as built, or so few blocks that running requests preempt each other. Each request alone fits."""
    fewest = max(blocks_for(request.prompt_length + request.max_tokens - 1) for request in requests)
    blocks = draw(st.sampled_from((BLOCKS, *range(fewest, min(BLOCKS, fewest + 6) + 1))))
    return SchedulingLimits(CONTEXT, draw(st.sampled_from((BATCH, BATCH, BATCH, 3, 2, 1))), blocks)
