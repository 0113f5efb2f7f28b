"""Make text safe for every format: control characters and halves of surrogate pairs become escapes."""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return ``text`` with characters that HTML, XML or terminals can't show as escapes such as ``\\x1b``."""
    if text.isprintable():  # true for nearly all texts, and faster
        return text
    return _UNPRINTABLE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
