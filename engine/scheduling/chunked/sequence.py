"""The state of a request in the chunked scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.chunked.chunks import Chunks


@dataclass(slots=True, eq=False)
class ChunkedSequence:
    """The state of a request in the chunked scheduler.

    ``computed`` is the number of tokens of the request that are in the KV cache or scheduled. The first ``hit`` of
    these tokens were found in the prefix cache when the request started; they fill whole blocks. Other requests can
    find the first ``shareable`` blocks of this request in the prefix cache. ``paused_for`` is the number of decode
    steps for which the request has been paused without a break; 0 if it is not paused. ``keys`` caches the content keys
    of the first blocks of the request: hashes by which the prefix cache finds blocks (engine/kv_cache/block_hash.py).
    """

    request_id: str
    chunks: Chunks
    max_tokens: int
    tokens: TokenSource
    computed: int = 0
    hit: int = 0
    shareable: int = 0
    paused_for: int = 0
    keys: list[ContentKey] = field(default_factory=list)

    @property
    def prompt_length(self) -> int:
        return self.chunks.prompt_length

    @property
    def generated(self) -> int:
        """Return the number of generated tokens of the request that are in the KV cache."""
        return self.computed - self.prompt_length

    @property
    def usable_blocks(self) -> int:
        """Return the number of blocks that the prefill skips because they were found in the prefix cache."""
        return self.chunks.usable_blocks(self.hit)

    @property
    def most_blocks(self) -> int:
        """Return the number of blocks that the request needs if it runs to ``max_tokens``.

        The last token counts, although it is never written to the KV cache.
        """
        return blocks_for(self.prompt_length + self.max_tokens)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """Return the content keys of the request's first ``blocks`` blocks. All tokens in them must be known."""
        extend_keys(self.keys, blocks, self.tokens, BLOCK_SIZE)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """Return the content keys of the blocks that the request may share: full blocks before its last prompt token.

        The last prompt token is always computed, because the first new token is sampled from its logits.
        """
        return self.keys_of((self.prompt_length - 1) // BLOCK_SIZE)
