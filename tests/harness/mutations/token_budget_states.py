"""Mutations of the token-budget scheduler in one state only, where the engine is right in all others."""

from typing import Any

import pytest

from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from tests.harness.mutations.registry import budget_mutation


@budget_mutation("of-two-that-end-in-one-step-the-first-is-handed-out-first", "hits -, expected 3:64")
def free_the_blocks_of_those_that_end_together_last_one_first(patch: pytest.MonkeyPatch) -> None:
    commit = TokenBudgetScheduler.commit

    def turned(self: TokenBudgetScheduler, ended: Any) -> None:
        self._running.reverse()
        commit(self, ended)
        self._running.reverse()

    patch.setattr(TokenBudgetScheduler, "commit", turned)


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
