"""Models of the Hugging Face hub, from the local cache first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints.errors import CheckpointError, first_sentence
from checkpoints.folders import why_unusable

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "tokenizer*"]
# Folders hold the same model in other formats; consolidated.safetensors is the same weights under other names.
LEFT_OUT = ["*/*", "consolidated*"]

Download = Callable[..., str]


def fetch(repository: str, revision: str | None, download: Download | None = None) -> Path:
    """The local folder of a hub model, fetched if it is not in the hub's cache yet.

    ``repository`` is ``org/name``; ``revision`` a branch, tag or commit, None for the main branch.
    What is in the cache is used as it is, without asking whether the hub has something newer. Raises
    CheckpointError if the model is neither in the cache nor to be had. ``download`` stands in for
    ``huggingface_hub.snapshot_download`` in tests.
    """
    if download is None:
        download = _snapshot_download()
    asked = {"revision": revision, "allow_patterns": PATTERNS, "ignore_patterns": LEFT_OUT}
    try:
        cached = Path(download(repository, local_files_only=True, **asked))
    except Exception:  # not in the cache, for whatever reason: the second try says why it cannot be had
        cached = None
    # A cached snapshot can be partial: another program may have wanted its tokenizer only.
    if cached is not None and why_unusable(cached) is None:
        return cached
    try:
        return Path(download(repository, local_files_only=False, **asked))
    except Exception as error:  # the library raises from five families, and all of them mean "not to be had"
        raise CheckpointError(_explain(repository, revision, error)) from None


def _snapshot_download() -> Download:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError("models of the hub need the package huggingface_hub, which is not installed") from None
    found: Any = snapshot_download  # seen with type hints or without, as huggingface_hub loads its names lazily
    download: Download = found
    return download


def _explain(repository: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants, errors

    tried = f"{repository!r} is not in the local hub cache"
    if isinstance(error, errors.GatedRepoError):
        return f"{tried} and the hub gives it only to accounts that accepted its licence: log in to the hub first"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{tried} at revision {revision!r} and the hub has no such revision of it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{tried} and the hub has no public model of that name"
    if constants.HF_HUB_OFFLINE:
        return f"{tried} and HF_HUB_OFFLINE is set, so the hub was not asked"
    # LocalEntryNotFoundError says in three sentences that something went wrong; its cause says what.
    cause = error.__cause__ or error
    return f"{tried} and the hub could not be reached ({type(cause).__name__}: {first_sentence(cause)})"
