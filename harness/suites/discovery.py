"""Find suite files among given paths, or in the default folder."""

from collections.abc import Sequence
from pathlib import Path

from harness.suites.shipped import shipped
from spyre_cb.look import NOT_SUITES, SUITE_SUFFIXES, files_below, looks_like_suite, may_be_suite

__all__ = ["NOT_SUITES", "SUITE_SUFFIXES", "NoSuitesError", "default_suites", "suite_files"]


class NoSuitesError(ValueError):
    """The given paths have no suite. The message is one sentence."""


def default_suites() -> Path:
    """Return the folder ``suites`` of the current directory, else that of this package. Raises NoSuitesError."""
    here, ours = Path("suites"), shipped() / "suites"
    if here.is_dir() or ours.is_dir():
        return here if here.is_dir() else ours
    raise NoSuitesError("there is no folder suites here: give paths of suites, or change to its parent folder")


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """Return the suites among the paths and below them, each once. Raises NoSuitesError if there are none."""
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
