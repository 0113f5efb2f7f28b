"""What a full block contains, as a key: all tokens from the first of the sequence to the block's last."""

from array import array
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

ContentKey = bytes
NOTHING: ContentKey = b""
"""What stands before a sequence's first block."""


class TokenSource(Protocol):
    """A request's tokens, the prompt's first and then as many as were generated."""

    def token_ids_between(self, start: int, stop: int) -> Sequence[int]:
        """Token ids ``start`` to ``stop`` - 1, counted from the prompt's first."""
        ...


def content_key(before: ContentKey, token_ids: Sequence[int]) -> ContentKey:
    """The key of a block with ``token_ids`` that stands behind the block with the key ``before``."""
    return sha256(before + array("q", token_ids).tobytes()).digest()


def extend_keys(keys: list[ContentKey], blocks: int, tokens: TokenSource, block_size: int) -> None:
    """Append to ``keys``, those of a request's first blocks, until there are ``blocks``; their tokens must be known."""
    while len(keys) < blocks:
        start = len(keys) * block_size
        before = keys[-1] if keys else NOTHING
        keys.append(content_key(before, tokens.token_ids_between(start, start + block_size)))
