"""The state of a request in the chunked scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.chunked.chunks import Chunks


@dataclass(slots=True, eq=False)
class ChunkedSequence:
    """The state of a request.

    ``computed`` tokens are scheduled or in its cache; ``hit`` of them (whole blocks) were found in the cache at its
    start. Other requests can find its first ``shareable`` blocks. ``paused_for`` counts consecutive decode steps in
    which it was paused. ``keys`` are the keys of its full blocks computed so far.
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
        """The number of generated tokens in its cache."""
        return self.computed - self.prompt_length

    @property
    def usable_blocks(self) -> int:
        """The number of found blocks that its prefill did not compute again."""
        return self.chunks.usable_blocks(self.hit)

    @property
    def most_blocks(self) -> int:
        """The number of blocks of the request if it runs to ``max_tokens``, with room for its last token."""
        return blocks_for(self.prompt_length + self.max_tokens)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """Return the keys of its first ``blocks`` blocks, whose tokens must all be known."""
        extend_keys(self.keys, blocks, self.tokens, BLOCK_SIZE)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """The keys of blocks it may share: full blocks of the prompt, whose last token is always computed."""
        return self.keys_of((self.prompt_length - 1) // BLOCK_SIZE)
