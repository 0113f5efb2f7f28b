"""Where a request ends by its own stop conditions, said once more for the reference."""

from collections.abc import Iterator, Sequence

from harness.references.values import NO_PROCESSORS, TOP, Processors, Reference, Wanted
from harness.suites.prompts import Vocabulary
from harness.types import RequestSpec

UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def wanted_for(request: RequestSpec, vocabulary: Vocabulary) -> Wanted:
    """The greedy continuation that a request is compared with; it goes on past what would end the request."""
    return Wanted(
        request.prompt_token_ids,
        request.max_tokens,
        tuple(sorted(_ending(request, vocabulary))),
        request.min_tokens,
        max(TOP, request.logprobs),
        _processors(request, vocabulary) if request.changes_logits else NO_PROCESSORS,
    )


def _processors(request: RequestSpec, vocabulary: Vocabulary) -> Processors:
    return Processors(
        request.presence_penalty,
        request.frequency_penalty,
        request.repetition_penalty,
        request.logit_bias,
        request.allowed_token_ids,
        tuple(_tokens_of_bad_words(request.bad_words, vocabulary)),
    )


def _tokens_of_bad_words(words: Sequence[str], vocabulary: Vocabulary) -> Iterator[tuple[int, ...]]:
    """Yield each word as a text begins with it, and with a space before it where that is one token for one.

    This is vLLM's rule (``SamplingParams.update_from_tokenizer``).
    """
    for word in words:
        first = vocabulary.encode_plain(word.lstrip())
        yield first
        later = vocabulary.encode_plain(f" {word.lstrip()}")
        if len(later) == len(first) and later[0] != first[0]:
            yield later


def ended(reference: Reference, request: RequestSpec, vocabulary: Vocabulary) -> Reference:
    """The continuation up to the token that ends the request, that one included."""
    reference = reference.upto(request.max_tokens)
    return reference.upto(end_of(reference.token_ids, request, vocabulary) or len(reference.tokens))


def ended_text(reference: Reference, request: RequestSpec, vocabulary: Vocabulary) -> str:
    """The text a client gets: without a token that ended it, cut where a stop string begins."""
    ids = ended(reference, request, vocabulary).token_ids
    if len(ids) >= request.min_tokens and ids[-1] in _ending(request, vocabulary):
        return vocabulary.visible(ids[:-1])
    text = vocabulary.visible(ids)
    found = [_completed_at(stop, ids, vocabulary) for stop in request.stop] if len(ids) >= request.min_tokens else []
    return text[: min((at for at in found if at >= 0), default=len(text))]


def forks(reference: Reference, margin: float, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Beginnings of the texts that part from the reference at a token whose lead in logprob is ``margin`` at most."""
    ids, found = reference.token_ids, []
    for place, token in enumerate(reference.tokens):
        best = token.top[0][1]
        for other, logprob in token.top:
            if other != token.token_id and best - logprob <= margin:
                found.append(vocabulary.visible((*ids[:place], other)).rstrip(UNFINISHED_CHARACTER))
    return tuple(found)


def end_of(token_ids: Sequence[int], request: RequestSpec, vocabulary: Vocabulary) -> int | None:
    """How many of these tokens the request has when one of them ends it; None where none does."""
    ending = _ending(request, vocabulary)
    if not ending and not request.stop:
        return None
    for count in range(max(1, request.min_tokens), len(token_ids) + 1):
        ids = tuple(token_ids[:count])
        if ids[-1] in ending or any(_completes(stop, ids, vocabulary) for stop in request.stop):
            return count
    return None


def _ending(request: RequestSpec, vocabulary: Vocabulary) -> set[int]:
    return set(request.stop_token_ids) | (set() if request.ignore_eos else vocabulary.eos_token_ids)


def _completes(stop: str, ids: tuple[int, ...], vocabulary: Vocabulary) -> bool:
    """Whether the last token completes a stop string: one that was there before ``min_tokens`` ends nothing later."""
    return _completed_at(stop, ids, vocabulary) >= 0


def _completed_at(stop: str, ids: tuple[int, ...], vocabulary: Vocabulary) -> int:
    """Where in the text the stop string begins that the last token completes; -1 where it completes none."""
    before, after = vocabulary.visible(ids[:-1]).rstrip(UNFINISHED_CHARACTER), vocabulary.visible(ids)
    return after.find(stop, max(0, len(before) - len(stop) + 1))
