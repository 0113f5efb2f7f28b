"""The chunks of a prompt, and which of them need not run after a hit in the prefix cache. Lengths are in tokens.

Source: docs/scheduling-rules-chunked.md, "Chunks" and "Prefix caching".
"""

from typing import NamedTuple

from engine.kv_cache.blocks import BLOCK_SIZE, round_up_to_block


class Chunks(NamedTuple):
    """A prompt of ``prompt_length`` tokens, divided into chunks of ``chunk_size`` tokens.

    Whole blocks of padding precede the prompt, so that the prompt's last block is the last block of the last chunk.
    """

    prompt_length: int
    chunk_size: int

    @property
    def chunks(self) -> int:
        """Return the number of chunks that the prompt is divided into."""
        return -(-self.prompt_length // self.chunk_size)

    @property
    def left_padding(self) -> int:
        """Return the length of the padding before the prompt, a multiple of 64."""
        return self.chunks * self.chunk_size - round_up_to_block(self.prompt_length)

    @property
    def in_first(self) -> int:
        """Return how many tokens of the prompt fit in the first chunk."""
        return self.chunk_size - self.left_padding

    def next_step(self, computed: int) -> int:
        """Return how many prompt tokens the next step adds to ``computed``, the number of tokens computed before it."""
        room = self.chunk_size if computed >= self.in_first else self.in_first
        return min(room, self.prompt_length - computed)

    def number_at(self, computed: int) -> int:
        """Return the number of the chunk that contains the token at position ``computed``. The first chunk is 0."""
        return (self.left_padding + computed) // self.chunk_size

    def usable(self, hit: int) -> int:
        """Return how many prompt tokens need not be computed if the first ``hit`` tokens are in the prefix cache.

        Only whole chunks can be skipped, and the last chunk is never skipped. So the result can be less than ``hit``.
        """
        skipped = min((self.left_padding + hit) // self.chunk_size, self.chunks - 1)
        return max(0, skipped * self.chunk_size - self.left_padding)

    def usable_blocks(self, hit: int) -> int:
        """Return how many blocks need not be computed if the first ``hit`` tokens are in the prefix cache."""
        return self.usable(hit) // BLOCK_SIZE
