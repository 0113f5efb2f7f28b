"""Keys of full blocks by content: a hash of all tokens from the first of the sequence to the last of the block."""

from array import array
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

ContentKey = bytes
NOTHING: ContentKey = b""
"""The key before the first block of a sequence."""


class TokenSource(Protocol):
    """The tokens of a request: the prompt, followed by the generated tokens."""

    def token_ids_between(self, start: int, stop: int) -> Sequence[int]:
        """Return token ids ``start`` to ``stop`` - 1, counted from the first token of the prompt."""
        ...


def content_key(before: ContentKey, token_ids: Sequence[int]) -> ContentKey:
    """Return the key of a block with ``token_ids`` that follows the block with the key ``before``."""
    return sha256(before + array("q", token_ids).tobytes()).digest()


def extend_keys(keys: list[ContentKey], blocks: int, tokens: TokenSource, block_size: int) -> None:
    """Extend ``keys``, the keys of a request's first blocks, to ``blocks`` keys; the tokens must be known."""
    while len(keys) < blocks:
        start = len(keys) * block_size
        before = keys[-1] if keys else NOTHING
        keys.append(content_key(before, tokens.token_ids_between(start, start + block_size)))
