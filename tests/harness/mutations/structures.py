"""Mutations of structured outputs: of the masks, and of the states of grammars."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from torch import Tensor

from engine.grammars import Grammar, Grammars
from engine.model import logits, sampler
from engine.model.grammar_masks import constrained
from engine.model.logits import processed
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.sequence import SequenceState
from tests.harness.mutations.chunked_batch import when_resumed
from tests.harness.mutations.registry import budget_output_mutation, chunked_output_mutation, output_mutation


def mask_rows_as(
    patch: pytest.MonkeyPatch, change: Callable[[Sequence[SequenceState]], Sequence[SequenceState]]
) -> None:
    """Mask row i of the logits by the grammar of sequence i of the list that ``change`` returns.

    ``change`` gets the list of the sequences to which the rows belong.
    """
    patch.setattr(sampler, "constrained", lambda logits, sequences: constrained(logits, change(sequences)))


@output_mutation("one-text-of-a-choice", "Hugging Face says")
def forget_the_mask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampler, "constrained", lambda logits, sequences: logits)


@output_mutation("masks-stay-with-their-requests-as-others-come-and-go", "Hugging Face says")
def mask_the_row_of_a_neighbour(patch: pytest.MonkeyPatch) -> None:
    mask_rows_as(patch, lambda sequences: [*sequences[1:], *sequences[:1]])


@output_mutation("masks-stay-with-their-requests-as-others-come-and-go", "Hugging Face says")
def leave_the_mask_of_a_request_in_its_row_after_it_left(patch: pytest.MonkeyPatch) -> None:
    first: dict[int, Any] = {}

    def stale(sequences: Sequence[SequenceState]) -> Sequence[SequenceState]:
        return [first.setdefault(row, sequence) for row, sequence in enumerate(sequences)]

    mask_rows_as(patch, stale)


@output_mutation("masks-stay-with-their-requests-as-others-come-and-go", "Hugging Face says")
def number_masks_by_constrained_requests_instead_of_rows(patch: pytest.MonkeyPatch) -> None:
    """Apply the n-th mask to row n of the logits, although only requests with structured outputs have a mask.

    Masks are then in the wrong rows if an earlier row belongs to a request without structured outputs.
    """

    def shifted(sequences: Sequence[SequenceState]) -> Sequence[SequenceState]:
        with_mask = [sequence for sequence in sequences if sequence.grammar is not None]
        free = [sequence for sequence in sequences if sequence.grammar is None]
        return [*with_mask, *free]

    mask_rows_as(patch, shifted)


@output_mutation("free-requests-next-to-constrained-ones", "Hugging Face says")
def mask_free_requests_by_the_grammar_before_them(patch: pytest.MonkeyPatch) -> None:
    def spread(sequences: Sequence[SequenceState]) -> Sequence[SequenceState]:
        last, found = None, []
        for sequence in sequences:
            last = sequence if sequence.grammar is not None else last
            found.append(last or sequence)
        return found

    mask_rows_as(patch, spread)


@output_mutation("a-regular-expression-for-the-whole-answer", "Hugging Face says")
def do_not_advance_a_grammar(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Grammar, "accept", lambda self, token_id: None)


@output_mutation("a-grammar-in-either-notation", "Hugging Face says")
def advance_a_grammar_by_every_other_token(patch: pytest.MonkeyPatch) -> None:
    accept, counts = Grammar.accept, dict[int, int]()

    def lazy(self: Grammar, token_id: int) -> None:
        counts[id(self)] = counts.get(id(self), 0) + 1
        if counts[id(self)] % 2:
            accept(self, token_id)

    patch.setattr(Grammar, "accept", lazy)


@output_mutation("one-structure-for-several-requests", "Hugging Face says")
def share_the_state_of_one_grammar(patch: pytest.MonkeyPatch) -> None:
    start, shared = Grammars.start, dict[Any, Grammar]()
    patch.setattr(Grammars, "start", lambda self, params: shared.setdefault(params, start(self, params)))


@output_mutation("after-a-complete-answer-only-eos-can-come", "Hugging Face says")
def let_anything_follow_a_complete_answer(patch: pytest.MonkeyPatch) -> None:
    allowed = Grammar.allowed

    def lax(self: Grammar) -> Any:
        return None if self._matcher.is_stopped() else allowed(self)

    patch.setattr(Grammar, "allowed", lax)


@output_mutation("after-a-complete-answer-only-eos-can-come", "Hugging Face says")
def keep_the_mask_after_eos(patch: pytest.MonkeyPatch) -> None:
    allowed = Grammar.allowed

    def forever(self: Grammar) -> Any:
        ended, self._ended = self._ended, False
        mask = allowed(self)
        self._ended = ended
        return mask

    patch.setattr(Grammar, "allowed", forever)


@output_mutation("a-regular-expression-for-the-whole-answer", "Hugging Face says")
def let_eos_end_an_incomplete_answer(patch: pytest.MonkeyPatch) -> None:
    allowed = Grammar.allowed

    def early(self: Grammar) -> Any:
        mask = allowed(self)
        if mask is not None:
            mask[:] = mask & False
            mask[sorted(self._eos_token_ids)] = True
        return mask

    patch.setattr(Grammar, "allowed", early)


@output_mutation("what-a-mask-forbids-no-bias-brings-back", "Hugging Face says")
def let_a_bias_bring_back_what_the_mask_forbids(patch: pytest.MonkeyPatch) -> None:
    raw: dict[int, Tensor] = {}

    def remember(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
        raw[0] = logits
        return constrained(logits, sequences)

    patch.setattr(sampler, "constrained", remember)
    patch.setattr(
        sampler,
        "processed",
        lambda logits, sequences: processed(
            raw[0] if any(s.params.changes_logits for s in sequences) else logits, sequences
        ),
    )


@output_mutation("logprobs-of-the-masked-logits", "logprob")
def take_logprobs_from_the_logits_before_the_mask(patch: pytest.MonkeyPatch) -> None:
    with_logprobs = sampler.with_logprobs
    raw: dict[int, Tensor] = {}

    def remember(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
        raw[0] = logits
        return constrained(logits, sequences)

    patch.setattr(sampler, "constrained", remember)
    patch.setattr(sampler, "with_logprobs", lambda logits, chosen, wanted: with_logprobs(raw[0], chosen, wanted))


def _restart_the_grammar(sequence: Any) -> None:
    """Reset the grammar of a request to its start, like an engine that compiles the grammar again."""
    if sequence.grammar is not None:
        sequence.grammar._matcher.reset()


@budget_output_mutation("preempted-requests-keep-their-place-in-a-grammar", "Hugging Face says")
def start_a_grammar_again_after_a_preemption(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt

    def forgetful(self: TokenBudgetScheduler, sequence: Any) -> None:
        preempt(self, sequence)
        _restart_the_grammar(sequence.tokens)

    patch.setattr(TokenBudgetScheduler, "_preempt", forgetful)


@budget_output_mutation("preempted-requests-keep-their-place-in-a-grammar", "Hugging Face says")
def drop_the_grammar_of_a_preempted_request(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt

    def forgetful(self: TokenBudgetScheduler, sequence: Any) -> None:
        preempt(self, sequence)
        sequence.tokens.grammar = None

    patch.setattr(TokenBudgetScheduler, "_preempt", forgetful)


@chunked_output_mutation("chunked-paused-requests-keep-their-place-in-a-grammar", "Hugging Face says")
def start_a_grammar_again_after_a_pause(patch: pytest.MonkeyPatch) -> None:
    when_resumed(patch, _restart_the_grammar)


@output_mutation("the-only-token-that-a-structure-allows-is-a-stop-token", "Hugging Face says")
def forbid_a_stop_token_where_the_structure_allows_no_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(logits, "_forbid_ends", lambda row, sequence: logits._forbid(row, sequence.forbidden_token_ids))
