"""Convert the state of a sequence to an answer: text, tokens and logprobs. All entry points use this module."""

from collections.abc import Mapping, Sequence

from engine.request import CompletionOutput, Logprob, PromptLogprobs, TokenOutput
from engine.sequence import SequenceState
from engine.structured_outputs import StructuredOutputsError
from engine.tokenizer import Tokenizer


def completion(index: int, sequence: SequenceState, tokenizer: Tokenizer) -> CompletionOutput:
    """Return an answer with all tokens that ``sequence`` has generated so far.

    ``index`` is the number of the answer among the ``n`` answers to the request.
    """
    wants_logprobs = sequence.params.logprobs is not None
    return CompletionOutput(
        index=index,
        text=whole_text(sequence, tokenizer),
        token_ids=sequence.output_token_ids,
        cumulative_logprob=sum(t.logprob or 0.0 for t in sequence.tokens) if wants_logprobs else None,
        logprobs=logprob_entries(sequence.tokens, tokenizer) if wants_logprobs else None,
        finish_reason=sequence.finish_reason,
        stop_reason=sequence.stop_reason,
        prompt_logprobs=prompt_entries(sequence, tokenizer),
    )


def prompt_entries(sequence: SequenceState, tokenizer: Tokenizer) -> PromptLogprobs | None:
    """Return the logprobs of the prompt; None if none were requested, or if not all of them are computed yet."""
    if sequence.params.prompt_logprobs is None or sequence.wants_logprobs_of_its_prompt:
        return None
    known = [sequence.prompt_tokens[place] for place in range(1, len(sequence.request.prompt_token_ids))]
    return (None, *logprob_entries(known, tokenizer))


def grammar_failure(sequence: SequenceState) -> StructuredOutputsError:
    """Return the exception for a request with the finish reason ``error``: its grammar accepted no further tokens."""
    assert sequence.grammar is not None
    return StructuredOutputsError(f"structured_outputs: {sequence.grammar.error}")


def whole_text(sequence: SequenceState, tokenizer: Tokenizer) -> str:
    """Return the text that ``sequence`` has generated so far (SequenceState.text)."""
    skip = sequence.params.skip_special_tokens

    def decode(token_ids: Sequence[int]) -> str:
        return tokenizer.decode(token_ids, skip_special_tokens=skip)

    return sequence.text(decode)


def logprob_entries(tokens: Sequence[TokenOutput], tokenizer: Tokenizer) -> tuple[Mapping[int, Logprob], ...]:
    """Return a mapping from token id to Logprob for each of ``tokens``.

    A mapping has the most likely tokens, most likely first, and then the chosen token if it is not among them.
    """

    def entry(token_id: int, logprob: float, rank: int | None) -> Logprob:
        return Logprob(logprob, rank, tokenizer.decode([token_id], skip_special_tokens=False))

    positions = []
    for token in tokens:
        position = {t: entry(t, logprob, rank) for rank, (t, logprob) in enumerate(token.top, start=1)}
        position[token.token_id] = entry(token.token_id, token.logprob or 0.0, token.rank)
        positions.append(position)
    return tuple(positions)
