"""Resolve links in paths that a user gave."""

import os
from pathlib import Path


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path without links, as far as they can be followed.

    Unlike ``Path.resolve``, this does not raise RuntimeError for a link that leads to itself. It returns a path, and
    opening this path fails with OSError, as for other files that cannot be read.
    """
    return Path(os.path.realpath(path))
