"""Read and decode YAML files."""

import re
from pathlib import Path

from harness.suites.yaml.composer import Composer
from harness.suites.yaml.values import Place, Problem, Source, YamlError
from harness.utils.files import read_ordinary

MAX_BYTES = 2_000_000


def read_yaml(path: Path) -> Source:
    """Read a YAML file. Raises YamlError if its content is invalid, OSError if it can't be read."""
    data = read_ordinary(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        what = f"this file is larger than {MAX_BYTES:,} bytes"
        raise YamlError([Problem(path, 1, 1, "", what, "split it into several files")])
    return Composer(path, _decode(path, data)).source()


# These are control characters, and U+0085, U+2028 and U+2029. The last three are line breaks in YAML 1.1 but not in
# editors, so line numbers in error messages would be wrong.
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _decode(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        wide = data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00"))
        what = f"this file is UTF-{32 if wide else 16}, not UTF-8"
        raise YamlError([Problem(path, 1, 1, "", what, "save the file as UTF-8")])
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place = _end_of(data[: error.start].decode("utf-8").removeprefix("\ufeff"))
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise YamlError([Problem(path, place.line, place.column, "", what, "save the file as UTF-8")]) from error
    if bad := _UNPRINTABLE.search(text):
        place = _end_of(text[: bad.start()])
        code = ord(bad.group())
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        hint = f'in text, write it as an escape: "{escape}"'
        what = f"the character U+{code:04X} is not allowed in a YAML file"
        raise YamlError([Problem(path, place.line, place.column, "", what, hint)])
    return text


def _end_of(text: str) -> Place:
    lines = re.split(r"\r\n|\r|\n", text)
    return Place(len(lines), len(lines[-1]) + 1)
