"""The content key of a full block: a hash of all tokens from the start of its sequence to the end of the block.

Blocks with the same key have the same content, so requests can share one of them (prefix caching).
"""

from array import array
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

ContentKey = bytes
NOTHING: ContentKey = b""
"""The value of ``before`` in a call of ``content_key`` for the first block of a sequence."""


class TokenSource(Protocol):
    """The interface of an object that has the tokens of a request: its prompt, followed by its generated tokens."""

    def token_ids_between(self, start: int, stop: int) -> Sequence[int]:
        """Return the token ids at positions ``start`` to ``stop`` - 1, counted from the start of the prompt."""
        ...

    @property
    def skip_reading_prefix_cache(self) -> bool:
        """Return whether all tokens of the prompt must be computed, even if their blocks are in the prefix cache."""
        ...


def content_key(before: ContentKey, token_ids: Sequence[int]) -> ContentKey:
    """Return the content key of a block, by which the prefix cache finds the block.

    ``token_ids`` are the tokens in the block. ``before`` is the content key of the previous block; NOTHING for the
    first block of a sequence.
    """
    return sha256(before + array("q", token_ids).tobytes()).digest()


def extend_keys(keys: list[ContentKey], blocks: int, tokens: TokenSource, block_size: int) -> None:
    """Append content keys to ``keys`` until it has the keys of a request's first ``blocks`` blocks.

    ``block_size`` is in tokens. All tokens of these blocks must be known.
    """
    while len(keys) < blocks:
        start = len(keys) * block_size
        before = keys[-1] if keys else NOTHING
        keys.append(content_key(before, tokens.token_ids_between(start, start + block_size)))
