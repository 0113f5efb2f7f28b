"""Mutations of the token-budget scheduler that are wrong in one state of a request or of the engine only."""

from typing import Any

import pytest

from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from tests.harness.mutations.registry import budget_mutation


@budget_mutation("a-prompt-that-fills-the-context-is-skipped", "scheduled 0:1 1:58 2:40, expected 0:1 1:57 2:40")
def compute_the_last_token_of_a_full_context(patch: pytest.MonkeyPatch) -> None:
    room = TokenBudgetScheduler._room
    patch.setattr(TokenBudgetScheduler, "_room", lambda self, sequence: room(self, sequence) + 1)


@budget_mutation("a-prompt-that-fills-the-context-is-skipped", "scheduled 0:1, expected 0:1 2:1")
def schedule_no_request_behind_one_that_fills_the_context(patch: pytest.MonkeyPatch) -> None:
    go_on = TokenBudgetScheduler._go_on

    def stopping(self: TokenBudgetScheduler, draft: Any) -> None:
        running = self._running
        places = [place for place, sequence in enumerate(running) if self._room(sequence) <= 0]
        self._running, behind = (running[: places[0]], running[places[0] :]) if places else (running, [])
        go_on(self, draft)
        self._running += behind

    patch.setattr(TokenBudgetScheduler, "_go_on", stopping)


@budget_mutation("a-decode-keeps-its-turn-where-the-budget-is-short", "scheduled 1:1 0:80 2:47, expected 0:80 1:1 2:47")
def schedule_decodes_first_where_the_budget_is_short(patch: pytest.MonkeyPatch) -> None:
    go_on = TokenBudgetScheduler._go_on

    def decodes_first(self: TokenBudgetScheduler, draft: Any) -> None:
        joined = self._running
        if sum(draft.within_threshold(sequence.missing) for sequence in joined) > draft.budget:
            self._running = sorted(joined, key=lambda sequence: sequence.missing > 1)
        go_on(self, draft)
        self._running = [sequence for sequence in joined if sequence in self._running]

    patch.setattr(TokenBudgetScheduler, "_go_on", decodes_first)
