"""The exception of this package."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A model cannot be used; the message is one sentence on one line.

    The message names the requested model, what was tried, and what would work; it can be shown to users without a
    traceback.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


def one_line(text: object) -> str:
    """Return ``str(text)`` with runs of whitespace replaced by one space, since errors of libraries span many lines."""
    return " ".join(str(text).split())


def first_sentence(text: object, limit: int = 200) -> str:
    """Return the first sentence of ``str(text)`` without its full stop, in at most ``limit`` characters."""
    sentence = one_line(text).partition(". ")[0].removesuffix(".")
    return sentence if len(sentence) <= limit else sentence[: limit - 3] + "..."
