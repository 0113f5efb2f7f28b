"""Mutations of the parameters that change logits, such as penalties and biases."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from engine.model import logits as processors
from engine.model import sampler
from engine.request import SamplingParams, TokenOutput
from engine.sequence import SequenceState
from tests.harness.mutations.ends import change_params
from tests.harness.mutations.registry import Patch, output_mutation


def process_rows_as(
    patch: pytest.MonkeyPatch, change: Callable[[Sequence[SequenceState]], Sequence[SequenceState]]
) -> None:
    """Process row i of the logits with the parameters of sequence i of the list that ``change`` returns.

    ``change`` gets the list of the sequences to which the rows belong.
    """
    processed = processors.processed
    patch.setattr(sampler, "processed", lambda logits, sequences: processed(logits, change(sequences)))


@output_mutation("repetition-penalty-counts-the-prompt", "Hugging Face says")
def penalise_the_answer_alone_for_repetition(patch: pytest.MonkeyPatch) -> None:
    process = processors._process

    def forgetful(logits: Tensor, sequence: SequenceState) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(sequence, "request", replace(sequence.request, prompt_token_ids=(sequence.token_ids[-1],)))
            process(logits, sequence)

    patch.setattr(processors, "_process", forgetful)


@output_mutation("repetition-penalty-makes-unlikely-tokens-less-likely", "Hugging Face says")
def divide_negative_logits_too(patch: pytest.MonkeyPatch) -> None:
    def divide(logits: Tensor, token_ids: set[int], penalty: float) -> None:
        logits[sorted(token_ids)] /= penalty

    patch.setattr(processors, "penalise_repetition", divide)


def _with_counts(patch: pytest.MonkeyPatch, change: Callable[[Sequence[int]], Sequence[int]]) -> None:
    penalise = processors.penalise_generated

    def wrong(logits: Tensor, generated: Sequence[int], params: SamplingParams) -> None:
        penalise(logits, change(generated), params)

    patch.setattr(processors, "penalise_generated", wrong)


@output_mutation("frequency-counts-how-often-and-presence-only-whether", "Hugging Face says")
def count_each_generated_token_once(patch: pytest.MonkeyPatch) -> None:
    _with_counts(patch, lambda generated: tuple(Counter(generated)))


@output_mutation("presence-and-frequency-at-their-bounds", "Hugging Face says")
def forget_the_last_token_generated(patch: pytest.MonkeyPatch) -> None:
    _with_counts(patch, lambda generated: generated[:-1])


@output_mutation("frequency-counts-how-often-and-presence-only-whether", "Hugging Face says")
def subtract_presence_each_time(patch: pytest.MonkeyPatch) -> None:
    change_params(
        patch,
        lambda params: replace(
            params, frequency_penalty=params.frequency_penalty + params.presence_penalty, presence_penalty=0.0
        ),
    )


@output_mutation("penalties-do-not-count-the-prompt", "Hugging Face says")
def count_the_prompt_for_frequency_and_presence(patch: pytest.MonkeyPatch) -> None:
    process, penalise = processors._process, processors.penalise_generated

    def wrong(logits: Tensor, sequence: SequenceState) -> None:
        def counting(row: Tensor, generated: Sequence[int], params: SamplingParams) -> None:
            penalise(row, (*sequence.request.prompt_token_ids, *generated), params)

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(processors, "penalise_generated", counting)
            process(logits, sequence)

    patch.setattr(processors, "_process", wrong)


@output_mutation("a-bias-of-a-hundred-decides", "Hugging Face says")
def ignore_biases_of_greedy_requests(patch: pytest.MonkeyPatch) -> None:
    change_params(patch, lambda params: replace(params, logit_bias=()) if params.greedy else params)


@output_mutation("a-bias-of-a-hundred-decides", "Hugging Face says")
def take_the_first_bias_only(patch: pytest.MonkeyPatch) -> None:
    change_params(patch, lambda params: replace(params, logit_bias=params.biases[:1]))


@output_mutation("a-bias-comes-before-the-penalty-for-repetition", "Hugging Face says")
def add_biases_after_the_penalty_for_repetition(patch: pytest.MonkeyPatch) -> None:
    process = processors._process

    def late(logits: Tensor, sequence: SequenceState) -> None:
        biases = sequence.params.biases
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(sequence, "params", replace(sequence.params, logit_bias=()))
            process(logits, sequence)
        for token_id, bias in biases:
            logits[token_id] += bias

    patch.setattr(processors, "_process", late)


@output_mutation("a-bias-cannot-bring-back-what-is-not-allowed", "Hugging Face says")
def make_tokens_that_are_not_allowed_unlikely_only(patch: pytest.MonkeyPatch) -> None:
    process = processors._process

    def lax(logits: Tensor, sequence: SequenceState) -> None:
        process(logits, sequence)
        for token_id, bias in sequence.params.biases:
            logits[token_id] = logits[token_id].clamp(min=bias - 50)

    patch.setattr(processors, "_process", lax)


@output_mutation("one-allowed-token-is-generated", "Hugging Face says")
def ignore_the_allowed_tokens(patch: pytest.MonkeyPatch) -> None:
    change_params(patch, lambda params: replace(params, allowed_token_ids=None))


@output_mutation("bad-words-of-one-and-several-tokens", "Hugging Face says")
def forbid_the_first_token_of_a_bad_word(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(processors, "completing", lambda words, generated: {word[0] for word in words})


@output_mutation("bad-words-of-one-and-several-tokens", "Hugging Face says")
def forbid_bad_words_of_one_token_only(patch: pytest.MonkeyPatch) -> None:
    completing = processors.completing
    patch.setattr(
        processors,
        "completing",
        lambda words, generated: completing([word for word in words if len(word) == 1], generated),
    )


@output_mutation("bad-words-end-with-their-request", "Hugging Face says")
def keep_bad_words_for_the_requests_that_follow(patch: pytest.MonkeyPatch) -> None:
    """Apply the bad words of a request to later requests without bad words, too.

    A batch has this fault if it clears all parameters before each prefill except the bad words.
    """
    completing, kept = processors.completing, list[tuple[int, ...]]()

    def stale(words: Sequence[tuple[int, ...]], generated: Sequence[int]) -> set[int]:
        kept[:] = words or kept
        return completing(kept, generated)

    patch.setattr(processors, "completing", stale)
    patch.setattr(processors, "_changes_now", lambda sequence: True)


@output_mutation("states-stay-with-their-requests-as-others-come-and-go", "Hugging Face says")
def process_each_row_by_its_neighbours_parameters(patch: pytest.MonkeyPatch) -> None:
    process_rows_as(patch, lambda sequences: [*sequences[1:], *sequences[:1]])


@output_mutation("states-stay-with-their-requests-as-others-come-and-go", "Hugging Face says")
def leave_the_parameters_of_a_row_when_others_take_it(patch: pytest.MonkeyPatch) -> None:
    first: dict[int, Any] = {}

    def stale(sequences: Sequence[SequenceState]) -> Sequence[SequenceState]:
        return [first.setdefault(row, sequence) for row, sequence in enumerate(sequences)]

    process_rows_as(patch, stale)


@output_mutation("min-tokens-and-penalties-together", "Hugging Face says")
def let_a_bias_end_a_request_before_min_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceState, "forbidden_token_ids", property(lambda self: frozenset()))


@output_mutation("a-free-request-takes-the-row-that-another-moved-out-of", "Hugging Face says")
def keep_the_allowed_tokens_in_a_row_that_their_request_moved_out_of(patch: pytest.MonkeyPatch) -> None:
    """Clear the allowed tokens of a row only if the request in it ends, and not if the request moves to another row.

    vLLM 0.27.1 has this bug. It moves requests to other rows, so that its batch has no empty rows.
    """
    rows: list[SequenceState | None] = []

    def stale(sequences: Sequence[SequenceState]) -> Sequence[SequenceState]:
        rows.extend([None] * (len(sequences) - len(rows)))
        for row, sequence in enumerate(sequences):
            held = rows[row]
            ended = held is not None and held.finish_reason is not None
            if held is None or ended or sequence.params.allowed_token_ids is not None:
                rows[row] = sequence if sequence.params.allowed_token_ids is not None else None
        return [rows[row] or sequence for row, sequence in enumerate(sequences)]

    process_rows_as(patch, stale)


WHEN_SAMPLING = "parameters-apply-to-requests-that-sample"
PAIRS_OF_PARAMETERS: dict[str, tuple[str, Any]] = {
    "repetition_penalty": ("requests 0 and 1", 1.0),
    "presence_penalty": ("requests 2 and 3", 0.0),
    "frequency_penalty": ("requests 4 and 5", 0.0),
    "logit_bias": ("requests 6 and 7", ()),
    "allowed_token_ids": ("requests 8 and 9", None),
    "bad_words_token_ids": ("requests 10 and 11", ()),
    "min_tokens": ("requests 12 and 13", 0),
}
"""For each parameter, the pair of requests of the case WHEN_SAMPLING that have it, and its default value."""


def ignoring_when_sampling(name: str) -> Patch:
    """Return a patch that makes the engine ignore the parameter ``name`` of requests with a temperature above 0."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        default: dict[str, Any] = {name: PAIRS_OF_PARAMETERS[name][1]}
        change_params(patch, lambda params: params if params.greedy else replace(params, **default))

    patch_it.__name__ = f"ignore_{name}_when_sampling"
    patch_it.__module__ = __name__
    return patch_it


for _name, (_pair, _) in PAIRS_OF_PARAMETERS.items():
    output_mutation(WHEN_SAMPLING, f"{_pair} should get the same tokens")(ignoring_when_sampling(_name))


def change_ranks(patch: pytest.MonkeyPatch, change: Callable[[int], int]) -> None:
    """Replace the rank that the engine reports for each token by the one that ``change`` returns."""
    with_logprobs = sampler.with_logprobs

    def changed(logits: Tensor, *others: Any) -> list[TokenOutput]:
        found = with_logprobs(logits, *others)
        return [token if token.rank is None else token._replace(rank=change(token.rank)) for token in found]

    patch.setattr(sampler, "with_logprobs", changed)


@output_mutation("no-alternatives", "ranks 0 in the engine, and 1 in Hugging Face")
def count_ranks_from_zero(patch: pytest.MonkeyPatch) -> None:
    change_ranks(patch, lambda rank: rank - 1)


@output_mutation("a-bias-of-a-hundred-decides", "ranks 1 in the engine, and below")
def rank_every_generated_token_first(patch: pytest.MonkeyPatch) -> None:
    change_ranks(patch, lambda rank: 1)


@output_mutation("requests-with-and-without-logprobs-in-one-batch", "logprob of token 1 is")
def leave_out_logprobs_next_to_a_request_without(patch: pytest.MonkeyPatch) -> None:
    with_logprobs = sampler.with_logprobs

    def fewer(logits: Tensor, token_ids: Sequence[int], wanted: Sequence[int | None]) -> list[TokenOutput]:
        return with_logprobs(logits, token_ids, [None] * len(wanted) if None in wanted else wanted)

    patch.setattr(sampler, "with_logprobs", fewer)
