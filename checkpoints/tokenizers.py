"""Load the tokenizer of a checkpoint with transformers, which is imported at the first call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoints.errors import CheckpointError, first_sentence


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of the checkpoint in ``folder``, an object of transformers.

    Raises CheckpointError if transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises whatever its parsers raise, for example KeyError
        file = folder / "tokenizer.json"
        where = file if file.is_file() else folder
        reason = f"{type(error).__name__}: {first_sentence(error)}".removesuffix(": ")
        raise CheckpointError(f"{where}: the tokenizer cannot be read: {reason}") from error
