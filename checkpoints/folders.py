"""Check whether a folder has a complete checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path

INDEX = "model.safetensors.index.json"


def why_unusable(folder: Path) -> str | None:
    """Return why ``folder`` is not a complete checkpoint, as the end of a sentence that begins with the folder's name.

    Return None if the checkpoint is complete. The shards that the index of the weights names must exist, because
    ibm-fms would leave missing weights uninitialised without an error.
    """
    try:
        names = {path.name for path in folder.iterdir() if os.path.isfile(path)}
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if "config.json" not in names:
        return "has no config.json"
    weights = {name for name in names if name.endswith(".safetensors")}
    if not weights:
        return "has no weights (*.safetensors; other formats are not read)"
    if INDEX not in names:
        return None
    try:
        shards = _shards(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"has an {INDEX} that cannot be read"
    missing = sorted(str(shard) for shard in shards - weights)
    return f"lacks the weights {missing[0]!r} that {INDEX} names" if missing else None


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files with the weights of a complete checkpoint, sorted: those in the index, or all."""
    if (folder / INDEX).is_file():
        return tuple(folder / shard for shard in sorted(_shards(folder)))
    return tuple(sorted(folder.glob("*.safetensors")))


def _shards(folder: Path) -> set[str]:
    """Return the names of the files that the index of the weights names."""
    return set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
