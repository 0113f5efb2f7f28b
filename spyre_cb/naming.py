"""Which suites a session of pytest was pointed at: by its command line, or by the ini setting ``cb_suites``."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from spyre_cb.look import SUITE_SUFFIXES, has_suite, looks_like_suite, may_be_suite
from spyre_cb.options import OPTIONS

INI_NAME = "cb_suites"
_WORKER_INPUT = "spyre_cb_named"


@dataclass(frozen=True)
class Named:
    """``files`` and ``folders`` of the command line, and the folders ``configured`` in the ini file; all absolute."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    configured: tuple[str, ...]

    def is_ours(self, file: Path) -> bool:
        """Whether a file that pytest comes by is a suite of this session."""
        if file.suffix not in SUITE_SUFFIXES:
            return False
        if str(file) in self.files:
            return True
        if any(file.is_relative_to(folder) and may_be_suite(file, Path(folder)) for folder in self.configured):
            return True
        named = any(file.is_relative_to(folder) and may_be_suite(file, Path(folder)) for folder in self.folders)
        return named and looks_like_suite(file)


named_key = pytest.StashKey[Named]()
"""Where a session that has suites of ours keeps what named them."""


def named_by(config: pytest.Config) -> Named | None:
    """What names suites of ours in this session, whose options are parsed; None where nothing does: it is not ours.

    With an option of ours, the folders that pytest goes through without being told to are as good as named.
    A worker of xdist goes by what the process that started it found: it is always given paths, named or not.
    """
    if hasattr(config, "workerinput"):
        told: dict[str, Sequence[str]] | None = config.workerinput.get(_WORKER_INPUT)
        return None if told is None else Named(**{name: tuple(paths) for name, paths in told.items()})
    folder = config.invocation_params.dir
    paths = [_absolute(folder, str(argument).partition("::")[0]) for argument in config.args]
    given = options_given(config)
    said = paths if given or config.args_source is pytest.Config.ArgsSource.ARGS else []
    configured = [path for path in map(_normal, config.getini(INI_NAME)) if _reaches(path, paths)]
    named = Named(
        tuple(str(path) for path in said if path.suffix in SUITE_SUFFIXES and path.is_file()),
        tuple(str(path) for path in said if path.is_dir()),
        tuple(map(str, configured)),
    )
    if named.files or named.configured or given:
        return named
    ignores = _ignores(config)
    return named if any(has_suite(Path(path), ignores) for path in named.folders) else None


def as_worker_input(named: Named) -> dict[str, Any]:
    """What a worker is told of it."""
    told = {"files": named.files, "folders": named.folders, "configured": named.configured}
    return {_WORKER_INPUT: {name: list(paths) for name, paths in told.items()}}


def options_given(config: pytest.Config) -> bool:
    """Whether an option of ours was given."""
    return any(getattr(config.option, option.dest) != option.default for option in OPTIONS)


def _ignores(config: pytest.Config) -> Callable[[Path], bool]:
    """Whether pytest goes past a file or folder, as far as options and the ini file say so."""
    folder = config.invocation_params.dir
    ignored = {_absolute(folder, str(path)) for path in config.option.ignore or ()}
    globs = [str(_absolute(folder, each)) for each in config.option.ignore_glob or ()]
    names: list[str] = config.getini("norecursedirs")

    def ignores(path: Path) -> bool:
        if path in ignored or any(fnmatch(str(path), each) for each in globs):
            return True
        named_so = any(fnmatch(str(path) if os.sep in each else path.name, each) for each in names)
        return path.is_dir() and (named_so or (path / "pyvenv.cfg").is_file())

    return ignores


def _reaches(configured: Path, paths: Sequence[Path]) -> bool:
    """Whether pytest, which collects in these paths, comes by the configured folder or by something in it."""
    return configured.exists() and any(
        path.is_relative_to(configured) or configured.is_relative_to(path) for path in paths
    )


def _absolute(folder: Path, path: str) -> Path:
    """As pytest makes a path absolute: without looking where links lead."""
    return _normal(folder / path)


def _normal(path: Path) -> Path:
    return Path(os.path.abspath(path))
