"""The tokenizer of a checkpoint and its end-of-sequence tokens."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from checkpoints import Checkpoint, load_tokenizer


class ChatTemplateError(ValueError):
    """The model has no chat template, or its chat template rejects the messages."""


class Tokenizer:
    """The tokenizer of a checkpoint.

    The tokenizer is loaded by ``load`` or at its first use, because importing transformers takes more than a second.
    ``eos_token_ids`` can be read without loading it.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._path = checkpoint.path
        self.eos_token_ids = eos_token_ids(checkpoint.path)

    def load(self) -> None:
        """Load the tokenizer now. Raises CheckpointError if transformers cannot load it."""
        _ = self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._path)

    @property
    def fast(self) -> Any:
        """Return the tokenizer object of the ``transformers`` library, for other libraries that read its vocabulary."""
        return self._tokenizer

    @property
    def vocabulary_size(self) -> int:
        """Return the number of token ids, including special tokens."""
        return len(self._tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, verbose=False)["input_ids"])

    def encode_plain(self, text: str) -> tuple[int, ...]:
        """Return the token ids of ``text``, without the special tokens that begin or end a prompt."""
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Return the token ids of ``messages`` in the format of the model's chat template.

        Raises ChatTemplateError if the model has no chat template, or if the template rejects the messages.
        """
        try:
            token_ids = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template is code from the checkpoint and may raise anything
            reason = " ".join(str(error).split())
            raise ChatTemplateError(f"the model's chat template rejects these messages: {reason}") from error
        return tuple(token_ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))


def eos_token_ids(path: Path) -> frozenset[int]:
    """Return the EOS token ids of the checkpoint at ``path``.

    They are read from ``generation_config.json``, or from ``config.json`` if ``generation_config.json`` has none.
    """
    for name in ("generation_config.json", "config.json"):
        file = path / name
        if file.is_file():
            eos = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            if eos is not None:
                return frozenset(eos if isinstance(eos, list) else [eos])
    return frozenset()
