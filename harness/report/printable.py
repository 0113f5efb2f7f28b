"""Text that every format can hold: control characters and halves of surrogate pairs as escapes."""

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """``text`` with ``\\x1b`` and the like in place of what HTML, XML and terminals cannot show."""
    if text.isprintable():  # nearly all is, and this is quicker to ask
        return text
    return _UNPRINTABLE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
