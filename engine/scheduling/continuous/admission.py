"""The conditions for the head of the queue to join the running batch, one function each ("Admission").

The conditions apply to the batch before padding is removed in this step.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.scheduling.padding import blocks_reserved, tkv_with_prompt


class Candidate(NamedTuple):
    """A waiting request: prompt length and token budget, both in tokens."""

    prompt_length: int
    max_tokens: int


class Running(NamedTuple):
    """A running sequence: prompt length, token budget, and tokens in its cache, all in tokens."""

    prompt_length: int
    max_tokens: int
    computed: int

    @property
    def remaining(self) -> int:
        """The number of tokens that the sequence may still generate."""
        return self.max_tokens - (self.computed - self.prompt_length)


def fits_context(new: Candidate, running: Sequence[Running], tkv: int, max_model_len: int) -> bool:
    """Check condition 3: neither the new sequence nor, where it increases tkv, a running one may exceed the context."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    room = max_model_len - grown
    if new.max_tokens > room:
        return False
    return grown == tkv or all(sequence.remaining <= room for sequence in running)


def fits_blocks(new: Candidate, tkv: int, unreserved: int) -> bool:
    """Check condition 4: the worst case of the new sequence fits the unreserved blocks."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    return blocks_reserved(grown, new.prompt_length, new.max_tokens) <= unreserved


def largest_batch_tkv(new: Candidate, running: Sequence[Running], tkv: int) -> int:
    """Return the largest batch size x tkv while the new sequence runs with others (condition 5).

    Sequences that end before the new one are visited in the order in which they end: each counts with the batch at its
    end. Sequences that end later were counted when they joined. The steps of the new sequence after all others have
    ended do not count.
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
