"""Text to tokens and back, with the tokens that end a text."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from checkpoints import Checkpoint


class ChatTemplateError(ValueError):
    """The model has no chat template, or it does not take these messages; the message says which."""


class Tokenizer:
    """A checkpoint's tokenizer. ``eos_token_ids`` is what its generation configuration says, else its model's.

    It is loaded by ``load``, else when it is first used: importing transformers takes more than a second.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._path = checkpoint.path
        self.eos_token_ids = eos_token_ids(checkpoint.path)

    def load(self) -> None:
        """Load it now. Raises what transformers raises where it cannot."""
        _ = self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._path)

    @property
    def vocabulary_size(self) -> int:
        """How many token ids there are, special ones among them."""
        return len(self._tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, verbose=False)["input_ids"])

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """A conversation by the model's chat template, up to where the assistant speaks. Raises ChatTemplateError."""
        try:
            token_ids = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template is a program of the model's, and may fail in any way
            said = " ".join(str(error).split())
            raise ChatTemplateError(f"the model's chat template does not take these messages: {said}") from error
        return tuple(token_ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))


def eos_token_ids(path: Path) -> frozenset[int]:
    """What a checkpoint's generation configuration says, else its model's."""
    for name in ("generation_config.json", "config.json"):
        file = path / name
        if file.is_file():
            eos = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
            if eos is not None:
                return frozenset(eos if isinstance(eos, list) else [eos])
    return frozenset()
