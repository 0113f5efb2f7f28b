"""Escape control characters and lone surrogates, which the formats of reports do not allow."""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return ``text`` with escapes such as ``\\x1b`` in place of characters that HTML or XML do not allow."""
    if text.isprintable():  # This is true for nearly all strings, and is faster than the substitution.
        return text
    return _UNPRINTABLE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
