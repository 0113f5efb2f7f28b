"""Which files are suites, among paths that were given or by default."""

from collections.abc import Sequence
from pathlib import Path

from harness.suites.shipped import shipped
from spyre_cb.look import NOT_SUITES, SUITE_SUFFIXES, files_below, looks_like_suite, may_be_suite

__all__ = ["NOT_SUITES", "SUITE_SUFFIXES", "NoSuitesError", "default_suites", "suite_files"]


class NoSuitesError(ValueError):
    """The given paths have no suite. The message is one sentence."""


def default_suites() -> Path:
    """The folder ``suites`` here, where there is one, else the one that this package carries. Raises NoSuitesError."""
    here, ours = Path("suites"), shipped() / "suites"
    if here.is_dir() or ours.is_dir():
        return here if here.is_dir() else ours
    raise NoSuitesError("there is no folder suites here: say which suites, or go to where it is")


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """The suites among these paths and below them, each once. Raises NoSuitesError."""
    files: dict[Path, None] = {}
    for path in paths or [default_suites()]:
        found = [path] if path.is_file() else _below(path)
        if not found:
            raise NoSuitesError(f"{path}: there is no suite in this folder")
        files.update(dict.fromkeys(found))
    return list(files)


def _below(folder: Path) -> list[Path]:
    files = files_below(folder, lambda path: path.name.startswith("."))
    return sorted(file for file in files if may_be_suite(file, folder) and looks_like_suite(file))
