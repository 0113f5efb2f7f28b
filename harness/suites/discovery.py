"""Find the suite files in the paths that a command is given, or in the default folder."""

from collections.abc import Sequence
from pathlib import Path

from harness.suites.shipped import shipped
from spyre_cb.look import NOT_SUITES, SUITE_SUFFIXES, files_below, looks_like_suite, may_be_suite

__all__ = ["NOT_SUITES", "SUITE_SUFFIXES", "NoSuitesError", "default_suites", "suite_files"]


class NoSuitesError(ValueError):
    """There are no suite files in the given paths. The message is one sentence for the user."""


def default_suites() -> Path:
    """Return the folder ``suites`` in the current directory, else that of the installed package.

    Raises NoSuitesError if neither exists.
    """
    here, ours = Path("suites"), shipped() / "suites"
    if here.is_dir() or ours.is_dir():
        return here if here.is_dir() else ours
    raise NoSuitesError("there is no folder named suites in the current directory; name suite files or folders")


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """Return the suite files among the paths and in the folders among them. Each file is returned once.

    Raises NoSuitesError if a folder has no suite.
    """
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
