"""A request as the token-budget scheduler sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.kv_cache.block_hash import ContentKey, TokenSource, extend_keys


@dataclass(slots=True, eq=False)
class BudgetSequence:
    """``computed`` of its tokens are in the cache or scheduled to be; its first ``shareable`` blocks can be found.

    ``generated`` counts the tokens it got so far, which it keeps when it is preempted. ``keys`` are those of its full
    blocks, as far as they were needed.
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
        """Tokens of the prompt and those generated so far."""
        return self.prompt_length + self.generated

    @property
    def missing(self) -> int:
        """Tokens it has that are not computed."""
        return self.length - self.computed

    def blocks_for(self, tokens: int) -> int:
        """The blocks that hold its first ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def keys_of(self, blocks: int) -> Sequence[ContentKey]:
        """The keys of its first ``blocks`` blocks, whose tokens must all be known."""
        extend_keys(self.keys, blocks, self.tokens, self.block_size)
        return self.keys[:blocks]

    @property
    def keys_to_look_for(self) -> Sequence[ContentKey]:
        """Those of the full blocks of all its tokens but the last, which must be computed in any case ("TB-HIT")."""
        return self.keys_of((self.length - 1) // self.block_size)
