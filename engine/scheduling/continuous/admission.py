"""The conditions for the head of the queue to join the running batch, one function per condition.

Source: docs/scheduling-rules.md, "Admission". The conditions apply to the batch before the step removes padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.scheduling.padding import blocks_reserved, tkv_with_prompt


class Candidate(NamedTuple):
    """A waiting request: the length of its prompt in tokens, and its ``max_tokens``."""

    prompt_length: int
    max_tokens: int


class Running(NamedTuple):
    """A running sequence: the length of its prompt, its ``max_tokens``, and how many of its tokens are in the cache."""

    prompt_length: int
    max_tokens: int
    computed: int

    @property
    def remaining(self) -> int:
        """Return the number of tokens that the sequence may still generate."""
        return self.max_tokens - (self.computed - self.prompt_length)


def fits_context(new: Candidate, running: Sequence[Running], tkv: int, max_model_len: int) -> bool:
    """Return whether every sequence can generate its ``max_tokens`` within the context (condition 3).

    Running sequences are checked only if the new sequence increases tkv.
    """
    grown = tkv_with_prompt(tkv, new.prompt_length)
    room = max_model_len - grown
    if new.max_tokens > room:
        return False
    return grown == tkv or all(sequence.remaining <= room for sequence in running)


def fits_blocks(new: Candidate, tkv: int, unreserved: int) -> bool:
    """Return whether ``unreserved`` blocks suffice for the new sequence to run to its ``max_tokens`` (condition 4)."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    return blocks_reserved(grown, new.prompt_length, new.max_tokens) <= unreserved


def largest_batch_tkv(new: Candidate, running: Sequence[Running], tkv: int) -> int:
    """Return the largest batch size x tkv while the new sequence runs with others (condition 5).

    Running sequences that end before the new one are visited in the order in which they end. Each contributes the
    product of batch size and tkv at its end. Sequences that end later were checked when they joined. The steps in
    which the new sequence runs alone, after all others have ended, do not count.
    """
    grown = tkv_with_prompt(tkv, new.prompt_length)
    last_tkv = grown + new.max_tokens - 1
    batch_size = len(running) + 1
    largest = 0
    for end in sorted([grown + sequence.remaining - 1 for sequence in running]):
        if last_tkv <= end:
            return max(largest, batch_size * last_tkv)
        largest = max(largest, batch_size * end)
        batch_size -= 1
    return largest
