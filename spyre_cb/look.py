"""Whether a YAML file is a suite, by a look at its top: other people's YAML files are not ours to parse."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

SUITE_SUFFIXES = (".yaml", ".yml")
NOT_SUITES = frozenset({"requirements.yaml", "known-failures.yaml"})
"""YAML files beside suites that are not suites."""
NO_FOLDERS_OF_SUITES = frozenset({"expectations"})
SUITE_KEYS = frozenset({"suite", "kind", "about", "markers", "parameters", "max_tests", "cases"})
"""The fields of a suite, as ``harness/suites/schema/suites.py`` has them."""

LOOKED_AT = 1 << 16
"""How many bytes of a file are looked at."""
_KEY = re.compile(rb"""^(?:([\w-]+)|"([\w-]+)"|'([\w-]+)')[ \t]*:(?=\s|$)""", re.MULTILINE)
_FLOW_KEY = re.compile(rb"""[{,]\s*["']?([\w-]+)["']?\s*:""")
_NESTED = re.compile(rb"\{[^{}]*\}|\[[^\[\]]*\]")
_NEXT_DOCUMENT = re.compile(rb"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)


def looks_like_suite(file: Path) -> bool:
    """Whether ``suite`` or ``kind`` is among its keys at the top, and most of them are a suite's.

    Kubernetes' objects have a ``kind`` and helm-unittest's files a ``suite``; their other keys are not ours. One
    misspelt key does not hide a suite. A file that cannot be read is none.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LOOKED_AT).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    keys = _keys(text)
    return bool(keys & {"suite", "kind"}) and 2 * len(keys & SUITE_KEYS) > len(keys)


def _keys(text: bytes) -> set[str]:
    """The keys at the top of the first document."""
    if text.lstrip().startswith(b"{"):
        inner, nested = text.lstrip()[1:], 1
        while nested:
            inner, nested = _NESTED.subn(b"", inner)
        return {key.decode() for key in _FLOW_KEY.findall(b"{" + inner)}
    first = next((part for part in _NEXT_DOCUMENT.split(text) if _KEY.search(part)), b"")
    return {next(filter(None, found)).decode() for found in _KEY.findall(first)}


def may_be_suite(file: Path, folder: Path) -> bool:
    """Whether its name and the folders between ``folder`` and it leave it to be a suite; hidden ones have none."""
    if file.suffix not in SUITE_SUFFIXES or file.name in NOT_SUITES:
        return False
    between = file.relative_to(folder).parts[:-1]
    return not any(part in NO_FOLDERS_OF_SUITES or part.startswith(".") for part in between)


def files_below(folder: Path, skipped: Callable[[Path], bool]) -> Iterator[Path]:
    """Every file in it and in the folders below, each folder once, but not in one that is ``skipped``."""
    seen: set[str] = set()

    def below(here: Path) -> Iterator[Path]:
        if (real := os.path.realpath(here)) in seen:
            return
        seen.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            return
        yield from (Path(entry.path) for entry in entries if entry.is_file())
        for entry in entries:
            if entry.is_dir() and not skipped(Path(entry.path)):
                yield from below(Path(entry.path))

    return below(folder)


def has_suite(folder: Path, ignored: Callable[[Path], bool]) -> bool:
    """Whether a file in it or below looks like a suite; of what is ``ignored`` nothing is looked at."""
    files = (file for file in files_below(folder, ignored) if may_be_suite(file, folder))
    return any(looks_like_suite(file) and not ignored(file) for file in files)
