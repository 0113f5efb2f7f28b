"""Resolve symbolic links in paths given by a user."""

import os
from collections.abc import Iterable
from pathlib import Path


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as an absolute path without symbolic links.

    Unlike ``Path.resolve``, this does not raise RuntimeError for a link that leads to itself. Opening the returned path
    then fails with OSError, as for other files that can't be read.
    """
    return Path(os.path.realpath(path))


def written_twice(outputs: Iterable[tuple[str, Path | None]]) -> str:
    """Return a sentence about the first two options that write the same file, "" if all files are different.

    ``outputs`` has the name of each option and its path, None if the option is not given. Devices and pipes, such as
    ``/dev/stdout``, can be written more than once.
    """
    options: dict[Path, str] = {}
    for option, path in outputs:
        if path is None or (path.exists() and not path.is_file() and not path.is_dir()):
            continue
        if (other := options.setdefault(resolved(path), option)) != option:
            return f"{other} and {option} both write {path}, so one would overwrite the other; name different files"
    return ""
