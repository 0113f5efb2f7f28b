"""A request as the chunked scheduler sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.chunked.chunks import Chunks


@dataclass(slots=True, eq=False)
class ChunkedSequence:
    """``computed`` tokens are scheduled or in its cache, ``hit`` of them (whole blocks) were found there at its start.

    Its first ``shareable`` blocks can be found by others. ``paused_for`` counts the decode steps it has been paused in
    a row. ``keys`` are those of its full blocks, as far as they were asked for.
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
        """Generated tokens in its cache."""
        return self.computed - self.prompt_length

    @property
    def usable_blocks(self) -> int:
        """Blocks that its prefill did not compute again."""
        return self.chunks.usable_blocks(self.hit)

    @property
    def most_blocks(self) -> int:
        """The blocks it holds if it runs to ``max_tokens``, with room for its last token."""
        return blocks_for(self.prompt_length + self.max_tokens)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """The keys of its first ``blocks`` blocks, whose tokens must all be known."""
        extend_keys(self.keys, blocks, self.tokens, BLOCK_SIZE)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """Those of the blocks it may share: full ones of its prompt, whose last token must be computed in any case."""
        return self.keys_of((self.prompt_length - 1) // BLOCK_SIZE)
