"""Random workloads of the token-budget scheduler: prompts that begin like earlier texts, few blocks, small budgets."""

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
"""Blocks of an engine of this shape: a full batch."""
SIZES = Sizes(requests=6, prompt=300, budget=90, join_step=40)
SIZES_ON_A_MODEL = Sizes(requests=5, prompt=200, budget=40, join_step=20)
BUDGETS = (512, 512, 64, 65, 100, 127, 128, 129, 192, 256, 40)
"""Tokens of a step. With 512 every prompt fits, also without chunks."""
THRESHOLDS = (0, 0, 0, 0, 24, 32, 63, 64, 65, 100)


@dataclass(frozen=True)
class TokenBudgetWorkload:
    """Requests in the order in which they join, limits that say their three numbers, and the scheduler's options."""

    limits: SchedulingLimits
    options: TokenBudgetSetup
    requests: tuple[SharingRequest, ...]
    scheduler: ClassVar[str] = "token_budget"

    @cached_property
    def case_id(self) -> str:
        """A name made from the content, fit for a case. Random prompts are seeded by it, so they go with it."""
        content = repr((astuple(self.limits), astuple(self.options), [astuple(request) for request in self.requests]))
        return f"found-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def setup(self, model: str) -> EngineSetup:
        """The engine it runs on."""
        return EngineSetup(model, "eager", 1, CONTEXT, BATCH, None, self.scheduler, self.options)

    def as_requests(self) -> tuple[Request, ...]:
        """The requests as a suite says them; what another goes on from is given in simulated_tokens."""
        return self._requests

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        return as_requests(self.case_id, self.requests)

    def specs(self, vocabulary: Vocabulary | None) -> list[RequestSpec]:
        """The requests as a driver takes them; without a model's ``vocabulary`` tokens are numbers.

        Without a model every request's tokens are given: a preempted request may find its own in the cache.
        """
        requests = self.as_requests()
        if vocabulary is not None:
            return [request_spec(r, self.case_id, position, vocabulary) for position, r in enumerate(requests)]
        specs = [simulated_spec(r, self.case_id, position, NUMBERS) for position, r in enumerate(requests)]
        return [spec if spec.simulated_token_ids else replace(spec, simulated_token_ids=_own(spec)) for spec in specs]

    def expected(self) -> tuple[StepRow, ...]:
        """What the rules say: it depends on what is alike, not on which tokens that is."""
        return predict(self.limits, self.options, self._texts())

    def explain(self, step: int) -> str:
        """What step ``step`` does by the rules."""
        return explain(self.limits, self.options, self._texts(), step)

    def _texts(self) -> list[PlannedText]:
        return planned_texts(self.specs(None), self.as_requests(), None)


def _own(spec: RequestSpec) -> tuple[int, ...]:
    """Tokens that no other request generates: prompts have others."""
    first = 2048 + spec.request_id * 1024
    return tuple(range(first, first + spec.max_tokens))


def strategy(on_a_model: bool, early_stops: bool) -> st.SearchStrategy[TokenBudgetWorkload]:  # noqa: ARG001
    """The workloads of a search. What a model generates is not known beforehand, so no prompt goes on from it."""
    return token_budget_workloads(SIZES_ON_A_MODEL if on_a_model else SIZES, decoded=not on_a_model)


@st.composite
def token_budget_workloads(
    draw: st.DrawFn, sizes: Sizes = SIZES, *, decoded: bool = True, rules: Sequence[TokenBudgetRules] = ("0.27", "0.32")
) -> TokenBudgetWorkload:
    """Workloads whose requests fit, each alone. ``decoded``: prompts may go on from what another generates."""
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
    """As built, or so few blocks that running requests preempt each other; any of them alone fits."""
    fewest = max(blocks_for(request.prompt_length + request.max_tokens - 1) for request in requests)
    blocks = draw(st.sampled_from((BLOCKS, *range(fewest, min(BLOCKS, fewest + 6) + 1))))
    return SchedulingLimits(CONTEXT, draw(st.sampled_from((BATCH, BATCH, BATCH, 3, 2, 1))), blocks)
