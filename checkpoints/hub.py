"""Find models of the Hugging Face hub in the hub's local cache, or download them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints.errors import CheckpointError, first_sentence
from checkpoints.folders import why_unusable

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "tokenizer*"]
# Subfolders have the same model in other formats; consolidated.safetensors has the same weights with other names.
LEFT_OUT = ["*/*", "consolidated*"]

Download = Callable[..., str]


def fetch(repository: str, revision: str | None, download: Download | None = None) -> Path:
    """Return the local folder of a hub model, downloaded if it is not in the hub's cache.

    ``repository`` is ``org/name``; ``revision`` a branch, tag or commit, None for the main branch. A cached model is
    used without checking for a newer version. Raises CheckpointError if the model is not in the cache and cannot be
    downloaded. ``download`` replaces ``huggingface_hub.snapshot_download`` in tests.
    """
    if download is None:
        download = _snapshot_download()
    options = {"revision": revision, "allow_patterns": PATTERNS, "ignore_patterns": LEFT_OUT}
    try:
        cached = Path(download(repository, local_files_only=True, **options))
    except Exception:  # not in the cache, for any reason: the second attempt reports why it cannot be downloaded
        cached = None
    # A cached snapshot can be partial: another program may have downloaded only its tokenizer.
    if cached is not None and why_unusable(cached) is None:
        return cached
    try:
        return Path(download(repository, local_files_only=False, **options))
    except (
        Exception
    ) as error:  # the library raises exceptions of five families, all of which mean that the model is not available
        raise CheckpointError(_explain(repository, revision, error)) from None


def _snapshot_download() -> Download:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            "models of the hub need the package huggingface_hub, which is not installed: pip install huggingface_hub"
        ) from None
    found: Any = snapshot_download  # Any, since the type hints of huggingface_hub depend on its lazy loading
    download: Download = found
    return download


def _explain(repository: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants, errors

    tried = f"{repository!r} is not in the local hub cache"
    if isinstance(error, errors.GatedRepoError):
        what = "the hub gives it only to accounts that accepted its licence"
        return f"{tried} and {what}: accept it on the model's page, and log in to the hub"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{tried} at revision {revision!r} and the hub has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{tried} and the hub has no public model of that name"
    if constants.HF_HUB_OFFLINE:
        return f"{tried} and HF_HUB_OFFLINE is set, so the hub was not contacted"
    # The message of LocalEntryNotFoundError is generic; its cause has the reason.
    cause = error.__cause__ or error
    return f"{tried} and the hub could not be reached ({type(cause).__name__}: {first_sentence(cause)})"
