"""Determine which suites a pytest session collects, from its command line and from the ini setting ``cb_suites``."""

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
    """The paths from which a session takes its suites. All paths are absolute.

    ``files`` and ``folders`` were named on the command line. ``configured`` are the folders of the ini setting.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    configured: tuple[str, ...]

    def is_ours(self, file: Path) -> bool:
        """Return whether the session collects tests from ``file``, a path that pytest has found.

        The file must have the suffix of suites. In addition, one of these must hold: it is named on the command line,
        it is below one of ``configured``, or it is below one of ``folders`` and has the content of a suite.
        """
        if file.suffix not in SUITE_SUFFIXES:
            return False
        if str(file) in self.files:
            return True
        if _is_below(file, self.configured):
            return True
        return _is_below(file, self.folders) and looks_like_suite(file)

    def covers(self, file: Path) -> bool:
        """Return whether the file is below a folder of the session, so that it is collected if it is a suite."""
        return _is_below(file, self.configured + self.folders)


def _is_below(file: Path, folders: Sequence[str]) -> bool:
    return any(file.is_relative_to(folder) and may_be_suite(file, Path(folder)) for folder in folders)


named_key = pytest.StashKey[Named]()
"""Key in pytest's stash of the ``Named`` of a session with suites."""


def named_by(config: pytest.Config) -> Named | None:
    """Return the paths from which a session takes its suites, or None if the session has no suites.

    Folders that pytest searches by default, such as ``testpaths``, count only if an option ``--cb-…`` is given. In
    xdist's workers, the result of the controller is returned, because the command line of a worker always has paths.
    """
    if hasattr(config, "workerinput"):
        received: dict[str, Sequence[str]] | None = config.workerinput.get(_WORKER_INPUT)
        return None if received is None else Named(**{name: tuple(paths) for name, paths in received.items()})
    folder = config.invocation_params.dir
    paths = [_absolute(folder, str(argument).partition("::")[0]) for argument in config.args]
    given = options_given(config)
    chosen = paths if given or config.args_source is pytest.Config.ArgsSource.ARGS else []
    configured = [path for path in map(_normal, config.getini(INI_NAME)) if _reaches(path, paths)]
    named = Named(
        tuple(str(path) for path in chosen if path.suffix in SUITE_SUFFIXES and path.is_file()),
        tuple(str(path) for path in chosen if path.is_dir()),
        tuple(map(str, configured)),
    )
    if named.files or named.configured or given:
        return named
    ignores = _ignores(config)
    return named if any(has_suite(Path(path), ignores) for path in named.folders) else None


def as_worker_input(named: Named) -> dict[str, Any]:
    """Return ``named`` in the form in which the controller sends it to xdist's workers."""
    fields = {"files": named.files, "folders": named.folders, "configured": named.configured}
    return {_WORKER_INPUT: {name: list(paths) for name, paths in fields.items()}}


def options_given(config: pytest.Config) -> bool:
    """Return whether an option ``--cb-…`` has a value other than its default."""
    return any(getattr(config.option, option.dest) != option.default for option in OPTIONS)


def _ignores(config: pytest.Config) -> Callable[[Path], bool]:
    """Return a function that returns whether pytest ignores a file or folder because of its options and ini file."""
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
    """Return whether pytest collects the folder ``configured``, or a part of it, when it collects ``paths``."""
    return configured.exists() and any(
        path.is_relative_to(configured) or configured.is_relative_to(path) for path in paths
    )


def _absolute(folder: Path, path: str) -> Path:
    """Make a path absolute as pytest does, without resolving symbolic links."""
    return _normal(folder / path)


def _normal(path: Path) -> Path:
    return Path(os.path.abspath(path))
