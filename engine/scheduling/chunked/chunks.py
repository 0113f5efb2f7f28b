"""The chunks of a prompt, and those that a prefix hit saves ("Chunks", "Prefix caching"). Lengths in tokens."""

from typing import NamedTuple

from engine.kv_cache.blocks import BLOCK_SIZE, round_up_to_block


class Chunks(NamedTuple):
    """A prompt of ``prompt_length`` tokens in chunks of ``chunk_size``.

    Whole blocks of padding before the prompt make its last chunk end with its last block.
    """

    prompt_length: int
    chunk_size: int

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.prompt_length // self.chunk_size)

    @property
    def left_padding(self) -> int:
        """Padding before the prompt, a multiple of 64."""
        return self.chunks * self.chunk_size - round_up_to_block(self.prompt_length)

    @property
    def in_first(self) -> int:
        """The number of prompt tokens in the first chunk."""
        return self.chunk_size - self.left_padding

    def next_step(self, computed: int) -> int:
        """Return how many tokens the next step covers after ``computed`` tokens, which are in the cache already."""
        room = self.chunk_size if computed >= self.in_first else self.in_first
        return min(room, self.prompt_length - computed)

    def number_at(self, computed: int) -> int:
        """Return the chunk, counted from 0, that has the token after the first ``computed``."""
        return (self.left_padding + computed) // self.chunk_size

    def usable(self, hit: int) -> int:
        """Return how many of ``hit`` cached tokens are in chunks that need not run; the last chunk always runs."""
        skipped = min((self.left_padding + hit) // self.chunk_size, self.chunks - 1)
        return max(0, skipped * self.chunk_size - self.left_padding)

    def usable_blocks(self, hit: int) -> int:
        """Return ``usable`` in blocks."""
        return self.usable(hit) // BLOCK_SIZE
