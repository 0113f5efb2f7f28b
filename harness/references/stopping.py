"""Determine where the stop conditions of a request end the reference's output, without using code of the engine."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.references.values import NO_PROCESSORS, TOP, Processors, Reference, Wanted, widened
from harness.suites.prompts import Vocabulary
from harness.types import RequestSpec

UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def wanted_for(request: RequestSpec, vocabulary: Vocabulary) -> Wanted:
    """Return what to compute as the reference of a request: a greedy continuation of ``max_tokens`` tokens.

    The prompt is truncated to ``truncate_prompt_tokens``. The continuation is computed as if the request had no stop
    conditions. Later, ``ended`` removes the tokens after the first stop condition.
    """
    request = request.truncated()
    return Wanted(
        request.prompt_token_ids,
        request.max_tokens,
        tuple(sorted(_ending(request, vocabulary))),
        request.min_tokens,
        max(TOP, request.logprobs),
        _processors(request, vocabulary) if request.changes_logits else NO_PROCESSORS,
        request.structured_outputs,
    )


def prompt_wanted_for(request: RequestSpec) -> Wanted | None:
    """Return what to compute as the reference for the logprobs of a request's prompt.

    Return None if the request asks for no logprobs of its prompt, or if the prompt is a single token: the first token
    of a prompt has no logprob.
    """
    prompt = request.truncated().prompt_token_ids
    if request.prompt_logprobs is None or len(prompt) == 1:
        return None
    return Wanted(prompt[:1], len(prompt) - 1, top=max(TOP, request.prompt_logprobs), given=prompt[1:])


def all_wanted(specs: Iterable[RequestSpec], vocabulary: Vocabulary) -> tuple[Wanted, ...]:
    """Return all references to compute for these requests: their continuations, and the logprobs of their prompts."""
    specs = list(specs)
    prompts = [wanted for spec in specs if (wanted := prompt_wanted_for(spec)) is not None]
    return widened([*(wanted_for(spec, vocabulary) for spec in specs), *prompts])


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
    """Yield the token sequences that the ``bad_words`` of a request forbid.

    This is vLLM's rule (``SamplingParams.update_from_tokenizer``). For each word, the sequence of its tokens without a
    leading space is forbidden. The sequence of its tokens with a leading space is forbidden as well, if it has the same
    length as the first sequence and another first token.
    """
    for word in words:
        first = vocabulary.encode_plain(word.lstrip())
        yield first
        later = vocabulary.encode_plain(f" {word.lstrip()}")
        if len(later) == len(first) and later[0] != first[0]:
            yield later


def ended(reference: Reference, request: RequestSpec, vocabulary: Vocabulary) -> Reference:
    """Return the reference's continuation up to the token that ends the request, including that token."""
    reference = reference.upto(request.max_tokens)
    return reference.upto(end_of(reference.token_ids, request, vocabulary) or len(reference.tokens))


def ended_text(reference: Reference, request: RequestSpec, vocabulary: Vocabulary) -> str:
    """Return the reference's text up to the stop condition that ends the request, as a client must receive it.

    The text ends before the stop token or stop string, or after it if ``include_stop_str_in_output`` is set.
    """
    ids, shown = ended(reference, request, vocabulary).token_ids, _shown(request, vocabulary)
    if len(ids) < request.min_tokens:
        return shown(ids)
    if ids[-1] in _ending(request, vocabulary):
        return shown(ids if request.include_stop_str_in_output else ids[:-1])
    found = [(at, stop) for stop in _stops_at(request, len(ids)) if (at := _completed_at(stop, ids, shown)) >= 0]
    if not found:
        return shown(ids)
    at, stop = min(found)
    return shown(ids)[: at + len(stop) if request.include_stop_str_in_output else at]


def forks(reference: Reference, margin: float, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the beginnings of other texts that an engine with a lower precision may generate.

    For each position, these are the reference's text up to this position, followed by another token whose logprob is at
    most ``margin`` below that of the best token.
    """
    ids, found = reference.token_ids, []
    for place, token in enumerate(reference.tokens):
        best = token.top[0][1]
        for other, logprob in token.top:
            if other != token.token_id and best - logprob <= margin:
                found.append(vocabulary.visible((*ids[:place], other)).rstrip(UNFINISHED_CHARACTER))
    return tuple(found)


def end_of(token_ids: Sequence[int], request: RequestSpec, vocabulary: Vocabulary) -> int | None:
    """Return the number of tokens up to the one at which a stop condition ends the request, including that token.

    Return None if no stop condition ends it.
    """
    ending = _ending(request, vocabulary)
    if not ending and not request.stop:
        return None
    shown = _shown(request, vocabulary)
    for count in range(max(1, request.min_tokens), len(token_ids) + 1):
        ids = tuple(token_ids[:count])
        if ids[-1] in ending or any(_completed_at(stop, ids, shown) >= 0 for stop in _stops_at(request, count)):
            return count
    return None


def _stops_at(request: RequestSpec, count: int) -> tuple[str, ...]:
    """Return the stop strings that can end the request after ``count`` generated tokens.

    These are all stop strings if ``count`` is above ``min_tokens``, otherwise none.
    """
    return request.stop if count > request.min_tokens else ()


def _ending(request: RequestSpec, vocabulary: Vocabulary) -> set[int]:
    return set(request.stop_token_ids) | (set() if request.ignore_eos else vocabulary.eos_token_ids)


def _shown(request: RequestSpec, vocabulary: Vocabulary) -> Callable[[tuple[int, ...]], str]:
    """Return the function that converts token ids to text, without special tokens if ``skip_special_tokens`` is set."""
    return vocabulary.visible if request.skip_special_tokens else vocabulary.decode


def _completed_at(stop: str, ids: tuple[int, ...], shown: Callable[[tuple[int, ...]], str]) -> int:
    """Return the position in the text of ``ids`` at which the stop string ``stop`` begins.

    Return -1 unless the last token completes the stop string. ``shown`` converts token ids to text.
    """
    before, after = shown(ids[:-1]).rstrip(UNFINISHED_CHARACTER), shown(ids)
    return after.find(stop, max(0, len(before) - len(stop) + 1))
