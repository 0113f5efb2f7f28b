"""Mutations of the scheduler ``token_budget``: order, budget, blocks, preemption, and ends of requests."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.config import TokenBudget
from engine.scheduling.plan import MixedStep, Part
from engine.scheduling.token_budget import scheduler
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.scheduling.token_budget.sequence import BudgetSequence
from tests.harness.mutations.registry import budget_mutation


def change_options(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Replace the options of every scheduler by the result of ``change``."""
    start = TokenBudgetScheduler.__init__

    def changed(self: TokenBudgetScheduler, limits: Any, options: TokenBudget) -> None:
        start(self, limits, change(options))

    patch.setattr(TokenBudgetScheduler, "__init__", changed)


# --- budget and threshold -----------------------------------------------------------------------------------------


@budget_mutation("two-prompts-one-token-over-the-budget", "scheduled 0:100 1:29, expected 0:100 1:28")
def compute_one_token_beyond_the_budget(patch: pytest.MonkeyPatch) -> None:
    change_options(patch, lambda options: replace(options, max_num_batched_tokens=options.max_num_batched_tokens + 1))


@budget_mutation("two-prompts-that-fill-the-budget", "scheduled 0:100 1:27, expected 0:100 1:28")
def leave_one_token_of_the_budget(patch: pytest.MonkeyPatch) -> None:
    change_options(patch, lambda options: replace(options, max_num_batched_tokens=options.max_num_batched_tokens - 1))


@budget_mutation("a-prompt-of-one-token-more-than-the-threshold", "scheduled 0:65 1:65, expected 0:64 1:64")
def know_no_threshold(patch: pytest.MonkeyPatch) -> None:
    change_options(patch, lambda options: replace(options, long_prefill_token_threshold=0))


@budget_mutation("alone-under-a-threshold-by-the-rules-of-0.32", "scheduled 0:32, expected 0:100")
def apply_the_threshold_to_a_lone_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenBudgetScheduler, "_threshold", lambda self: self.options.long_prefill_token_threshold)


@budget_mutation("two-whole-prompts-are-one-token-over-the-budget", "scheduled 0:300 1:212, expected 0:300")
def divide_prompts_without_chunked_prefill(patch: pytest.MonkeyPatch) -> None:
    change_options(patch, lambda options: replace(options, enable_chunked_prefill=True))


@budget_mutation("decodes-and-two-chunks-in-one-step", "step 2 is a decode")
def admit_only_what_fits_the_budget_whole(patch: pytest.MonkeyPatch) -> None:
    admit = TokenBudgetScheduler._admit

    def whole(self: TokenBudgetScheduler, draft: Any) -> None:
        if draft.parts and self._waiting and self._waiting[0].length > draft.budget:
            return
        admit(self, draft)

    patch.setattr(TokenBudgetScheduler, "_admit", whole)


@budget_mutation("a-chunk-of-one-token-that-is-not-the-last-of-its-prompt", "of kind decode, expected mixed")
def take_every_part_of_one_token_for_a_decode(patch: pytest.MonkeyPatch) -> None:
    schedule = TokenBudgetScheduler._schedule

    def alike(
        self: TokenBudgetScheduler, sequence: BudgetSequence, tokens: int, draft: Any, *, is_decode: bool
    ) -> None:
        schedule(self, sequence, tokens, draft, is_decode=is_decode or (tokens == 1 and sequence.computed > 0))

    patch.setattr(TokenBudgetScheduler, "_schedule", alike)


@budget_mutation("the-context-is-full", "outputs 0 1, expected 0")
def yield_a_token_with_every_chunk_of_a_mixed_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scheduler, "Part", lambda *values: Part(*values)._replace(yields_token=True))


# --- order --------------------------------------------------------------------------------------------------------


@budget_mutation("requests-in-the-order-they-joined", "scheduled 1:10 0:1, expected 0:1 1:10")
def admit_waiting_requests_before_running_ones(patch: pytest.MonkeyPatch) -> None:
    go_on, admit = TokenBudgetScheduler._go_on, TokenBudgetScheduler._admit

    def reversed_order(self: TokenBudgetScheduler, draft: Any) -> None:
        before = self._running.copy()
        admit(self, draft)
        new = [sequence for sequence in self._running if sequence not in before]
        self._running = before
        go_on(self, draft)
        self._running += new

    patch.setattr(TokenBudgetScheduler, "_go_on", reversed_order)
    patch.setattr(TokenBudgetScheduler, "_admit", lambda self, draft: None)


@budget_mutation("the-head-lacks-blocks-and-a-short-one-waits-behind-it", "waiting 1, expected 1 2")
def let_others_overtake_a_head_that_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    admit = TokenBudgetScheduler._admit

    def overtaking(self: TokenBudgetScheduler, draft: Any) -> None:
        admit(self, draft)
        for _ in range(len(self._waiting) - 1):
            head = self._waiting.popleft()
            admit(self, draft)
            self._waiting.appendleft(head)
            self._waiting.rotate(-1)
        self._waiting.rotate(-1)

    patch.setattr(TokenBudgetScheduler, "_admit", overtaking)


@budget_mutation("an-early-end-frees-its-place", "running 0 1, expected 0")
def run_one_more_than_max_num_seqs(patch: pytest.MonkeyPatch) -> None:
    start = TokenBudgetScheduler.__init__

    def larger(self: TokenBudgetScheduler, limits: Any, options: TokenBudget) -> None:
        start(self, replace(limits, max_num_seqs=limits.max_num_seqs + 1), options)

    patch.setattr(TokenBudgetScheduler, "__init__", larger)


@budget_mutation("blocks-are-free-in-the-step-of-the-end", "running 2 1, expected 1 2")
def put_a_new_request_in_front_of_running(patch: pytest.MonkeyPatch) -> None:
    commit = TokenBudgetScheduler.commit

    def fronted(self: TokenBudgetScheduler, ended: Any) -> None:
        new = {request_id for request_id, _ in self._plan.hits}
        self._running.sort(key=lambda sequence: sequence.request_id not in new)
        commit(self, ended)

    patch.setattr(TokenBudgetScheduler, "commit", fronted)


@budget_mutation("an-older-chunk-goes-before-younger-decodes", "scheduled 1:1 0:")
def schedule_decodes_before_chunks(patch: pytest.MonkeyPatch) -> None:
    plan = TokenBudgetScheduler.plan

    def sorted_parts(self: TokenBudgetScheduler) -> MixedStep:
        made = plan(self)
        parts = sorted(made.parts, key=lambda part: not part.is_decode)
        self._plan = made._replace(parts=tuple(parts))
        return self._plan

    patch.setattr(TokenBudgetScheduler, "plan", sorted_parts)


# --- blocks at admission and at growth ----------------------------------------------------------------------------


@budget_mutation("a-first-chunk-would-fit-but-not-the-whole-prompt", "step 2 is a mixed")
def admit_where_only_the_first_chunk_fits(patch: pytest.MonkeyPatch) -> None:
    def chunk_only(self: TokenBudgetScheduler, sequence: Any, found: Any) -> bool:
        tokens = min(sequence.length, len(found) * sequence.block_size + self.options.max_num_batched_tokens)
        return self.pool.worst_case(sequence.blocks_for(tokens), found) <= self.pool.free_total

    patch.setattr(TokenBudgetScheduler, "_fits", chunk_only)


@budget_mutation("a-prompt-whose-blocks-are-exactly-free", "waiting 1, expected -")
def admit_only_with_a_block_to_spare(patch: pytest.MonkeyPatch) -> None:
    fits = TokenBudgetScheduler._fits

    def sparing(self: TokenBudgetScheduler, sequence: Any, found: Any) -> bool:
        needed = self.pool.worst_case(sequence.blocks_for(sequence.length), found)
        return needed < self.pool.free_total if self._running else fits(self, sequence, found)

    patch.setattr(TokenBudgetScheduler, "_fits", sparing)


@budget_mutation("a-prompt-of-one-token-less-than-the-budget", "used 2, expected 1")
def take_a_block_for_the_next_token_too(patch: pytest.MonkeyPatch) -> None:
    def one_ahead(self: TokenBudgetScheduler, sequence: BudgetSequence, tokens: int) -> int:
        held = len(self.pool.held(sequence.request_id))
        return max(0, sequence.blocks_for(sequence.computed + tokens + 1) - held)

    patch.setattr(TokenBudgetScheduler, "_more_blocks", one_ahead)


@budget_mutation("ends-while-another-is-in-its-prefill", "used 5, expected 2")
def take_the_blocks_of_the_whole_prompt(patch: pytest.MonkeyPatch) -> None:
    def whole(self: TokenBudgetScheduler, sequence: BudgetSequence, tokens: int) -> int:
        needed = sequence.blocks_for(max(sequence.length, sequence.computed + tokens))
        return max(0, needed - len(self.pool.held(sequence.request_id)))

    patch.setattr(TokenBudgetScheduler, "_more_blocks", whole)


# --- preemption ---------------------------------------------------------------------------------------------------


@budget_mutation("a-preempted-request-runs-whole-again", "step 6 is a step with nothing to run")
def preempt_the_first_of_the_others(patch: pytest.MonkeyPatch) -> None:
    def first(self: TokenBudgetScheduler, sequence: Any, tokens: int, draft: Any) -> bool:
        while self._lacks_blocks(sequence, tokens):
            scheduled = {part.request_id for part in draft.parts}
            victim = next(s for s in self._running if s.request_id not in scheduled)
            self._preempt(victim)
            draft.preempted.append(victim.request_id)
            if victim is sequence:
                return False
        return True

    patch.setattr(TokenBudgetScheduler, "_make_room", first)


@budget_mutation("two-grow-and-two-are-preempted", "preempted 3 2 1, expected 3")
def preempt_all_behind_the_one_that_needs_a_block(patch: pytest.MonkeyPatch) -> None:
    make_room = TokenBudgetScheduler._make_room

    def thorough(self: TokenBudgetScheduler, sequence: Any, tokens: int, draft: Any) -> bool:
        while self._lacks_blocks(sequence, tokens) and self._running[-1] is not sequence:
            while self._running[-1] is not sequence:
                draft.preempted.append(self._running[-1].request_id)
                self._preempt(self._running[-1])
        return make_room(self, sequence, tokens, draft)

    patch.setattr(TokenBudgetScheduler, "_make_room", thorough)


@budget_mutation("preempted-goes-before-those-that-wait", "waiting 2 1, expected 1 2")
def send_a_preempted_request_to_the_end_of_the_queue(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt

    def last(self: TokenBudgetScheduler, sequence: Any) -> None:
        preempt(self, sequence)
        self._waiting.rotate(-1)

    patch.setattr(TokenBudgetScheduler, "_preempt", last)


@budget_mutation("a-victim-frees-too-little-and-a-second-is-taken", "waiting 2 1, expected 1 2")
def put_the_younger_of_two_preempted_in_front(patch: pytest.MonkeyPatch) -> None:
    plan = TokenBudgetScheduler.plan

    def turned(self: TokenBudgetScheduler) -> MixedStep:
        made = plan(self)
        victims = [self._waiting.popleft() for _ in made.preempted]
        self._waiting.extendleft(victims)
        return made

    patch.setattr(TokenBudgetScheduler, "plan", turned)


@budget_mutation("a-full-batch-one-block-short", "step 3 is a mixed")
def forget_what_a_preempted_request_generated(patch: pytest.MonkeyPatch) -> None:
    """After a preemption, compute the length of the request from its prompt only.

    The generated tokens are still output.
    """
    preempt = TokenBudgetScheduler._preempt

    def forgetting(self: TokenBudgetScheduler, sequence: Any) -> None:
        preempt(self, sequence)
        sequence.generated = 0

    patch.setattr(TokenBudgetScheduler, "_preempt", forgetting)


@budget_mutation("a-preempted-twin-would-fit-and-waits-a-step", "step ")
def admit_in_a_step_that_preempts(patch: pytest.MonkeyPatch) -> None:
    go_on, plan = TokenBudgetScheduler._go_on, TokenBudgetScheduler.plan
    hidden: list[str] = []

    def hiding(self: TokenBudgetScheduler, draft: Any) -> None:
        go_on(self, draft)
        hidden[:] = draft.preempted
        draft.preempted = []

    def planned(self: TokenBudgetScheduler) -> MixedStep:
        made = plan(self)
        self._plan = made._replace(preempted=tuple(hidden))
        return self._plan

    patch.setattr(TokenBudgetScheduler, "_go_on", hiding)
    patch.setattr(TokenBudgetScheduler, "plan", planned)


@budget_mutation("growth-is-one-block-short", "step 2 is a step with nothing to run")
def preempt_the_one_that_needs_a_block(patch: pytest.MonkeyPatch) -> None:
    def own(self: TokenBudgetScheduler, sequence: Any, tokens: int, draft: Any) -> bool:
        if not self._lacks_blocks(sequence, tokens):
            return True
        self._preempt(sequence)
        draft.preempted.append(sequence.request_id)
        return False

    patch.setattr(TokenBudgetScheduler, "_make_room", own)


# --- ends ---------------------------------------------------------------------------------------------------------


@budget_mutation("two-prompts-one-token-under-the-budget", "used 3, expected 0")
def free_blocks_in_the_step_after_the_end(patch: pytest.MonkeyPatch) -> None:
    plan = TokenBudgetScheduler.plan
    late: list[str] = []

    def leaving(self: TokenBudgetScheduler, sequence: Any) -> None:
        self._running.remove(sequence)
        self._request_left = True
        late.append(sequence.request_id)

    def planned(self: TokenBudgetScheduler) -> MixedStep:
        while late:
            self.pool.free(late.pop(0))
        return plan(self)

    patch.setattr(TokenBudgetScheduler, "_end", leaving)
    patch.setattr(TokenBudgetScheduler, "plan", planned)


@budget_mutation("a-prompt-of-the-whole-budget", "step 4 is missing: the engine has no more work")
def run_no_empty_step_at_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenBudgetScheduler, "has_work", property(lambda self: bool(self._waiting or self._running)))


@budget_mutation("aborted-before-the-first-step", "waiting 0 1, expected 1")
def leave_an_aborted_request_in_the_queue_for_a_step(patch: pytest.MonkeyPatch) -> None:
    abort, plan = TokenBudgetScheduler.abort, TokenBudgetScheduler.plan
    late: list[str] = []

    def aborted(self: TokenBudgetScheduler, request_id: str) -> bool:
        late.append(request_id)
        return True

    def planned(self: TokenBudgetScheduler) -> MixedStep:
        while late:
            abort(self, late.pop())
        return plan(self)

    patch.setattr(TokenBudgetScheduler, "abort", aborted)
    patch.setattr(TokenBudgetScheduler, "plan", planned)


@budget_mutation("a-whole-prompt-exceeds-the-budget-and-its-threshold-does-not", "scheduled")
def let_a_whole_prompt_wait_although_its_threshold_fits(patch: pytest.MonkeyPatch) -> None:
    admit, fits = TokenBudgetScheduler._admit, TokenBudgetScheduler._fits
    drafts: list[Any] = []

    def remembering(self: TokenBudgetScheduler, draft: Any) -> None:
        drafts.append(draft)
        admit(self, draft)

    def whole(self: TokenBudgetScheduler, sequence: Any, found: tuple[int, ...]) -> bool:
        rest = sequence.length - len(found) * self.options.block_size
        return fits(self, sequence, found) and (self.options.enable_chunked_prefill or rest <= drafts[-1].budget)

    patch.setattr(TokenBudgetScheduler, "_admit", remembering)
    patch.setattr(TokenBudgetScheduler, "_fits", whole)


def leave_without_an_empty_step(patch: pytest.MonkeyPatch, is_last: Callable[[TokenBudgetScheduler], bool]) -> None:
    """Leave out the empty step after the abort of a waiting request.

    It is left out only if ``is_last(scheduler)`` is true directly before the abort.
    """
    abort = TokenBudgetScheduler.abort

    def leaving(self: TokenBudgetScheduler, request_id: str) -> bool:
        is_waiting, last = any(s.request_id == request_id for s in self._waiting), is_last(self)
        found = abort(self, request_id)
        self._request_left = self._request_left and not (is_waiting and last)
        return found

    patch.setattr(TokenBudgetScheduler, "abort", leaving)


@budget_mutation("the-only-request-is-aborted-before-any-step", "step 1 is missing: the engine has no more work")
def run_no_empty_step_after_the_abort_of_the_only_request(patch: pytest.MonkeyPatch) -> None:
    leave_without_an_empty_step(patch, lambda self: not self._running and not self._request_left)


@budget_mutation(
    "the-running-one-and-the-waiting-one-are-aborted-together", "step 5 is missing: the engine has no more"
)
def forget_the_running_one_that_was_aborted_before_a_waiting_one(patch: pytest.MonkeyPatch) -> None:
    leave_without_an_empty_step(patch, lambda self: self._request_left)
