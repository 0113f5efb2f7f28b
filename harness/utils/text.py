"""Formatting of numbers in messages."""


def plural(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 case``, ``2 cases``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
