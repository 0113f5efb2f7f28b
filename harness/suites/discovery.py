"""What a suite file is: YAML by its suffix, unless its name or a folder above it says otherwise."""

from collections.abc import Sequence
from pathlib import Path

SUITE_SUFFIXES = (".yaml", ".yml")
NOT_SUITES = frozenset({"requirements.yaml", "known-failures.yaml"})
"""YAML files beside suites that are not suites."""
NO_FOLDERS_OF_SUITES = frozenset({"expectations"})


class NoSuitesError(ValueError):
    """There is no suite where some were asked for; one sentence."""


def is_suite(path: Path) -> bool:
    """Whether the file at ``path`` is a suite; hidden folders have none."""
    if path.suffix not in SUITE_SUFFIXES or path.name in NOT_SUITES or not path.is_file():
        return False
    return not any(part in NO_FOLDERS_OF_SUITES or part.startswith(".") for part in path.parts[:-1] if part != "..")


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """The suites among these paths and below them, each once. Raises NoSuitesError."""
    if not paths and not Path("suites").is_dir():
        raise NoSuitesError("there is no folder suites here: say which suites, or go to where it is")
    files: dict[Path, None] = {}
    for path in paths or [Path("suites")]:
        found = [path] if path.is_file() else sorted(filter(is_suite, path.rglob("*")))
        if not found:
            raise NoSuitesError(f"{path}: there is no suite in this folder")
        files.update(dict.fromkeys(found))
    return list(files)
