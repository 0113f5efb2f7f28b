"""Convert a sequence to an answer: text, tokens, logprobs. Used by every entry point."""

from collections.abc import Mapping, Sequence

from engine.request import CompletionOutput, Logprob, TokenOutput
from engine.sequence import SequenceState
from engine.tokenizer import Tokenizer


def completion(index: int, sequence: SequenceState, tokenizer: Tokenizer) -> CompletionOutput:
    """Return everything that ``sequence`` has generated so far as answer ``index``."""
    wants_logprobs = sequence.params.logprobs is not None
    return CompletionOutput(
        index=index,
        text=whole_text(sequence, tokenizer),
        token_ids=sequence.output_token_ids,
        cumulative_logprob=sum(t.logprob or 0.0 for t in sequence.tokens) if wants_logprobs else None,
        logprobs=logprob_entries(sequence.tokens, tokenizer) if wants_logprobs else None,
        finish_reason=sequence.finish_reason,
        stop_reason=sequence.stop_reason,
    )


def whole_text(sequence: SequenceState, tokenizer: Tokenizer) -> str:
    """Return the text so far, cut at a stop string or stop token."""
    skip = sequence.params.skip_special_tokens

    def decode(token_ids: Sequence[int]) -> str:
        return tokenizer.decode(token_ids, skip_special_tokens=skip)

    return sequence.text(decode)


def logprob_entries(tokens: Sequence[TokenOutput], tokenizer: Tokenizer) -> tuple[Mapping[int, Logprob], ...]:
    """Return one mapping per token: the alternatives, best first, and the chosen token among or after them."""

    def entry(token_id: int, logprob: float, rank: int | None) -> Logprob:
        return Logprob(logprob, rank, tokenizer.decode([token_id], skip_special_tokens=False))

    positions = []
    for token in tokens:
        position = {t: entry(t, logprob, rank) for rank, (t, logprob) in enumerate(token.top, start=1)}
        position[token.token_id] = entry(token.token_id, token.logprob or 0.0, token.rank)
        positions.append(position)
    return tuple(positions)
