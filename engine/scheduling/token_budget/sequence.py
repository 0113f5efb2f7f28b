"""The state of a request in the token-budget scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys


@dataclass(slots=True, eq=False)
class BudgetSequence:
    """The state of a request in the token-budget scheduler.

    ``generated`` is the number of tokens generated so far; a preempted request keeps them. ``computed`` is the number
    of tokens of the request that are in the KV cache or scheduled. Other requests can find the first ``shareable``
    blocks of this request in the prefix cache. ``keys`` caches the content keys of the first blocks of the request:
    hashes by which the prefix cache finds blocks (engine/kv_cache/block_hash.py).
    """

    request_id: str
    prompt_length: int
    tokens: TokenSource
    block_size: int
    generated: int = 0
    computed: int = 0
    shareable: int = 0
    keys: list[ContentKey] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Return the number of tokens of the request: prompt and generated."""
        return self.prompt_length + self.generated

    @property
    def missing(self) -> int:
        """Return the number of tokens of the request that are not computed yet."""
        return self.length - self.computed

    def blocks_for(self, tokens: int) -> int:
        """Return the number of blocks that the first ``tokens`` tokens of the request need."""
        return -(-tokens // self.block_size)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """Return the content keys of the request's first ``blocks`` blocks. All tokens in them must be known."""
        extend_keys(self.keys, blocks, self.tokens, self.block_size)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """Return the content keys of the blocks that the request may share ("TB-HIT").

        They are the full blocks before the last token of the request. The last token is always computed, because the
        next token is sampled from its logits.
        """
        return self.keys_of((self.length - 1) // self.block_size)
