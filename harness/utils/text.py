"""Format numbers for messages."""


def plural(number: int, noun: str) -> str:
    """Return a number with a noun in the singular or plural, such as ``1 case`` or ``2 cases``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
