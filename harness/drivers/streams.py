"""Assemble the chunks of a streamed answer."""

from collections.abc import Iterable, Sequence
from itertools import chain

from harness.drivers.client import Answer, Choice, StreamChunk


def assembled(chunks: Iterable[StreamChunk], n: int) -> Answer:
    """Join the chunks of a streamed answer with ``n`` choices, and return the answer.

    The logprobs of the prompt are taken from the last chunk that has them, because in a stream of kind ``cumulative``
    every chunk has them.
    """
    chunks = list(chunks)
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    return Answer(tuple(_choice(chunks, index) for index in range(n)), usages[-1] if usages else None)


def _choice(chunks: Sequence[StreamChunk], index: int) -> Choice:
    reasons = [chunk.finish_reasons[index] for chunk in chunks if index in chunk.finish_reasons]
    found = [chunk.logprobs[index] for chunk in chunks if index in chunk.logprobs]
    of_prompt = [chunk.prompt_logprobs[index] for chunk in chunks if index in chunk.prompt_logprobs]
    prompt = of_prompt[-1] if of_prompt else None
    return Choice(
        "".join(chunk.texts.get(index, "") for chunk in chunks),
        sum(chunk.tokens.get(index, 0) for chunk in chunks),
        reasons[-1] if reasons else None,
        logprobs=tuple(chain.from_iterable(each.own for each in found)) if found else None,
        alternatives=tuple(chain.from_iterable(each.alternatives for each in found)),
        prompt_logprobs=prompt.own if prompt else None,
        prompt_alternatives=prompt.alternatives if prompt else (),
    )
