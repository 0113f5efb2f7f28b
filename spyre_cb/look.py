"""Recognise suites among YAML files without parsing them, because YAML files of other tools must not cause errors."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

SUITE_SUFFIXES = (".yaml", ".yml")
NOT_SUITES = frozenset({"requirements.yaml", "known-failures.yaml"})
"""Names of YAML files in folders of suites that are not suites."""
NO_FOLDERS_OF_SUITES = frozenset({"expectations"})
"""Names of folders whose YAML files are not suites."""
SUITE_KEYS = frozenset({"suite", "kind", "about", "markers", "parameters", "max_tests", "cases"})
"""The keys at the top level of a suite file, the same as in ``harness/suites/schema/suites.py``."""

LOOKED_AT = 1 << 16
"""Number of bytes that are read from a file. Keys after these bytes are not found."""
_KEY = re.compile(rb"""^(?:([\w-]+)|"([\w-]+)"|'([\w-]+)')[ \t]*:(?=\s|$)""", re.MULTILINE)
_FLOW_KEY = re.compile(rb"""[{,]\s*["']?([\w-]+)["']?\s*:""")
_NESTED = re.compile(rb"\{[^{}]*\}|\[[^\[\]]*\]")
_NEXT_DOCUMENT = re.compile(rb"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)


def looks_like_suite(file: Path) -> bool:
    """Return whether a YAML file looks like a suite.

    It looks like one if its top-level keys include ``suite`` or ``kind``, and if more than half of these keys are keys
    of suites. Kubernetes files also have ``kind``, and files of helm-unittest have ``suite``, but their other keys are
    different. A suite with a misspelt key is still recognised. The result is False for a file that can't be read.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LOOKED_AT).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    keys = _keys(text)
    return bool(keys & {"suite", "kind"}) and 2 * len(keys & SUITE_KEYS) > len(keys)


def _keys(text: bytes) -> set[str]:
    """Return the top-level keys of the first YAML document in ``text`` that has top-level keys."""
    if text.lstrip().startswith(b"{"):
        inner, nested = text.lstrip()[1:], 1
        while nested:
            inner, nested = _NESTED.subn(b"", inner)
        return {key.decode() for key in _FLOW_KEY.findall(b"{" + inner)}
    first = next((part for part in _NEXT_DOCUMENT.split(text) if _KEY.search(part)), b"")
    return {next(filter(None, found)).decode() for found in _KEY.findall(first)}


def may_be_suite(file: Path, folder: Path) -> bool:
    """Return whether ``file``, a file in ``folder``, can be a suite, judging by its path alone.

    Files in hidden folders and in folders named ``expectations`` are not suites.
    """
    if file.suffix not in SUITE_SUFFIXES or file.name in NOT_SUITES:
        return False
    between = file.relative_to(folder).parts[:-1]
    return not any(part in NO_FOLDERS_OF_SUITES or part.startswith(".") for part in between)


def files_below(folder: Path, skipped: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield all files in ``folder`` and in the folders below it. Folders for which ``skipped`` is true are left out.

    A folder to which several symbolic links lead is searched only once.
    """
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


def dangling_links(folder: Path) -> list[Path]:
    """Return the symbolic links in a folder that have the suffix of suites, and whose targets do not exist."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    links = (Path(entry.path) for entry in entries if entry.is_symlink() and entry.name.endswith(SUITE_SUFFIXES))
    return [link for link in links if not link.exists()]


def is_loop(folder: Path) -> bool:
    """Return whether a folder is a symbolic link to a folder above it, which pytest would search again and again."""
    if not folder.is_symlink():
        return False
    real = os.path.realpath(folder)
    return any(os.path.realpath(above) == real for above in folder.parents)


def has_suite(folder: Path, ignored: Callable[[Path], bool]) -> bool:
    """Return whether any file in ``folder`` or below it looks like a suite. ``ignored`` paths are skipped."""
    files = (file for file in files_below(folder, ignored) if may_be_suite(file, folder))
    return any(looks_like_suite(file) and not ignored(file) for file in files)
