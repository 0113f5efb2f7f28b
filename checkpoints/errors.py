"""The exception of this package."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A model cannot be used. The message is one sentence on one line, to be shown without a traceback.

    The message names the requested model, the reason, and what the user can do.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


def one_line(text: object) -> str:
    """Return ``str(text)`` on one line, with a single space for each run of white space."""
    return " ".join(str(text).split())


def first_sentence(text: object, limit: int = 200) -> str:
    """Return the first sentence of ``str(text)`` without its full stop, in at most ``limit`` characters."""
    sentence = one_line(text).partition(". ")[0].removesuffix(".")
    return sentence if len(sentence) <= limit else sentence[: limit - 3] + "..."
