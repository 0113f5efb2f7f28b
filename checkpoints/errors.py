"""The one exception of this package."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A model that cannot be used, said in one sentence on one line.

    The message names what was asked for, what was tried and what would work; it is fit to be shown to
    a user as it is, without a traceback.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


def one_line(text: object) -> str:
    """``str(text)`` with every run of whitespace made one space: other people's errors span many lines."""
    return " ".join(str(text).split())


def first_sentence(text: object, limit: int = 200) -> str:
    """The first sentence of ``str(text)`` without its full stop, in at most ``limit`` characters, to be quoted."""
    sentence = one_line(text).partition(". ")[0].removesuffix(".")
    return sentence if len(sentence) <= limit else sentence[: limit - 3] + "..."
