"""Resolve symbolic links in paths given by a user."""

import os
from pathlib import Path


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as an absolute path without symbolic links.

    Unlike ``Path.resolve``, this does not raise RuntimeError for a link that leads to itself. Opening the returned path
    then fails with OSError, as for other files that can't be read.
    """
    return Path(os.path.realpath(path))
