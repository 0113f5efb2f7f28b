"""Assemble the chunks of a streamed answer."""

from collections.abc import Iterable

from harness.drivers.client import Answer, Choice, StreamChunk


def assembled(chunks: Iterable[StreamChunk], n: int) -> Answer:
    """Join the chunks of a streamed answer with ``n`` choices, and return the answer."""
    texts, tokens = [""] * n, [0] * n
    reasons: list[str | None] = [None] * n
    usage = None
    for chunk in chunks:
        for index, text in chunk.texts.items():
            texts[index] += text
        for index, count in chunk.tokens.items():
            tokens[index] += count
        for index, reason in chunk.finish_reasons.items():
            reasons[index] = reason
        usage = chunk.usage or usage
    choices = zip(texts, tokens, reasons, strict=True)
    return Answer(tuple(Choice(text, count, reason) for text, count, reason in choices), usage)
