"""Resolve links in paths that a user gave."""

import os
from pathlib import Path


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path without links, as far as they can be followed.

    Unlike ``Path.resolve``, which raises RuntimeError, this returns a path for a link that leads to itself, too. What
    then opens that path reports it as a file that cannot be read.
    """
    return Path(os.path.realpath(path))
