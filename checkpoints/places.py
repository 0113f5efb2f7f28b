"""The folder of the built-in model, and the cache folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TINY_GRANITE = Path(__file__).parent / "tiny_granite"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for downloads and cached results, which need not exist.

    The folder is ``$SPYRE_CB_CACHE``, else ``$XDG_CACHE_HOME/spyre-cb``, else ``~/.cache/spyre-cb``. An empty variable
    is ignored, and so is a relative path in ``XDG_CACHE_HOME``, as the XDG specification requires.
    """
    own = environ.get("SPYRE_CB_CACHE", "").strip()
    if own:
        return Path(os.path.expanduser(own)).absolute()
    xdg = environ.get("XDG_CACHE_HOME", "").strip()
    if xdg and os.path.isabs(xdg):
        return Path(xdg) / "spyre-cb"
    return Path(os.path.expanduser("~")) / ".cache" / "spyre-cb"
