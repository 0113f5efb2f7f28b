"""Assemble the chunks of a stream to an answer."""

from collections.abc import Iterable

from harness.drivers.client import Answer, Choice, StreamChunk


def assembled(pieces: Iterable[StreamChunk], n: int) -> Answer:
    """Return the answer of a stream of ``n`` choices: texts joined, tokens counted, the last usage."""
    texts, tokens = [""] * n, [0] * n
    reasons: list[str | None] = [None] * n
    usage = None
    for piece in pieces:
        for index, text in piece.texts.items():
            texts[index] += text
        for index, count in piece.tokens.items():
            tokens[index] += count
        for index, reason in piece.finish_reasons.items():
            reasons[index] = reason
        usage = piece.usage or usage
    choices = zip(texts, tokens, reasons, strict=True)
    return Answer(tuple(Choice(text, count, reason) for text, count, reason in choices), usage)
