"""Convert plain scalars, the unquoted words of a YAML file, to values."""

import re
from functools import lru_cache

from harness.suites.yaml.values import Content, shortened

MAX_DIGITS = 100

_WORDS: dict[str, bool | None] = {
    spelling: value
    for word, value in (
        *(("", None), ("~", None), ("null", None)),
        *(("true", True), ("yes", True), ("on", True)),
        *(("false", False), ("no", False), ("off", False)),
    )
    for spelling in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# YAML 1.1 and 1.2 read these words in different ways: as a number or a date, as another number, or as text. Therefore
# they are errors.
_AMBIGUOUS = {
    "an octal number": re.compile(r"[-+]?0o?[0-9_]+"),
    "a hexadecimal number": re.compile(r"[-+]?0x[0-9a-fA-F_]+"),
    "a binary number": re.compile(r"[-+]?0b[01_]+"),
    "a number": re.compile(r"[-+]?(?=[^_]*_)[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"),
    "a number in base 60": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t][-+0-9:.Zz \t]*)?"),
}


@lru_cache(maxsize=4096)
def meaning(raw: str) -> tuple[Content, str, str]:
    """Return (value of an unquoted word, error message, hint). Message and hint are "" if the word is allowed."""
    if raw in _WORDS:
        return _WORDS[raw], "", ""
    for other, form in _AMBIGUOUS.items():
        if form.fullmatch(raw):
            fix = "quote it" if other == "a date" else "write it in plain decimals, or quote it"
            return raw, f"`{shortened(raw)}` must not be unquoted", f"YAML reads this as {other}; {fix}"
    if not _FLOAT.fullmatch(raw):
        return raw, "", ""
    if len(raw) > MAX_DIGITS:
        what = f"this number has {len(raw)} digits, more than the maximum of {MAX_DIGITS}"
        return raw, what, "quote it if it is text"
    if _INTEGER.fullmatch(raw):
        return int(raw), "", ""
    return float(raw.lower().replace(".inf", "inf").replace(".nan", "nan")), "", ""
