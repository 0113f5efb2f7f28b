"""The state of a request in the token-budget scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys


@dataclass(slots=True, eq=False)
class BudgetSequence:
    """The state of a request.

    ``computed`` tokens are in the cache or scheduled; other requests can find its first ``shareable`` blocks.
    ``generated`` counts the tokens generated so far, which are kept when it is preempted. ``keys`` are the keys of its
    full blocks computed so far.
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
        """The number of tokens of the prompt and generated so far."""
        return self.prompt_length + self.generated

    @property
    def missing(self) -> int:
        """The number of tokens that are not computed yet."""
        return self.length - self.computed

    def blocks_for(self, tokens: int) -> int:
        """Return the number of blocks for its first ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """Return the keys of its first ``blocks`` blocks, whose tokens must all be known."""
        extend_keys(self.keys, blocks, self.tokens, self.block_size)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """The keys of full blocks of all its tokens except the last, which is always computed ("TB-HIT")."""
        return self.keys_of((self.length - 1) // self.block_size)
