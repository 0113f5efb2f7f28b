"""Find the suite files in the paths on a command line, or in the default folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from harness.suites.shipped import shipped
from spyre_cb.look import NOT_SUITES, SUITE_SUFFIXES, dangling_links, files_below, looks_like_suite, may_be_suite

__all__ = ["NOT_SUITES", "SUITE_SUFFIXES", "NoSuitesError", "default_suites", "suite_files"]


class NoSuitesError(ValueError):
    """Raised if the paths of the user have no suite files. The message is one sentence for the user."""


def default_suites() -> Path:
    """Return the folder ``suites`` in the current directory or, if there is none, in the installed package.

    Raises NoSuitesError if neither exists.
    """
    here, ours = Path("suites"), shipped() / "suites"
    if here.is_dir() or ours.is_dir():
        return here if here.is_dir() else ours
    raise NoSuitesError("there is no folder named suites in the current directory; name suite files or folders")


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """Return the suite files in ``paths``: the files among them, and the suite files in the folders among them.

    A file to which several symbolic links lead is returned only once. Raises NoSuitesError if a folder has no suite
    file, or has a symbolic link to a suite file that does not exist.
    """
    files: dict[str, Path] = {}
    for path in paths or [default_suites()]:
        found = [path] if path.is_file() else _below(path)
        if not found:
            raise NoSuitesError(f"{path}: there is no suite in this folder")
        for file in found:
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def dangling(link: Path) -> str:
    """Return what is wrong with a symbolic link without a target. The text follows the path of the link in messages."""
    return f"is a link to {os.readlink(link)}, which does not exist"


def _below(folder: Path) -> list[Path]:
    files = list(files_below(folder, lambda path: path.name.startswith(".")))
    for link in (link for inner in {file.parent: None for file in files} for link in dangling_links(inner)):
        if may_be_suite(link, folder):
            raise NoSuitesError(f"{link}: {dangling(link)}")
    return sorted(file for file in files if may_be_suite(file, folder) and looks_like_suite(file))
