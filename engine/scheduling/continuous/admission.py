"""May the request at the head of the queue join the running batch? One function a condition ("Admission").

The conditions are asked of the batch as it was before padding is removed in this step.
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
        """What is left of its budget."""
        return self.max_tokens - (self.computed - self.prompt_length)


def fits_context(new: Candidate, running: Sequence[Running], tkv: int, max_model_len: int) -> bool:
    """Condition 3: nobody may run past the context, neither the new one nor, where it makes tkv grow, the rest."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    room = max_model_len - grown
    if new.max_tokens > room:
        return False
    return grown == tkv or all(sequence.remaining <= room for sequence in running)


def fits_blocks(new: Candidate, tkv: int, unreserved: int) -> bool:
    """Condition 4: the worst case of the new one fits into the blocks promised to nobody."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    return blocks_reserved(grown, new.prompt_length, new.max_tokens) <= unreserved


def largest_batch_tkv(new: Candidate, running: Sequence[Running], tkv: int) -> int:
    """The largest batch size x tkv while the new one runs beside others (condition 5).

    Sequences that end before the new one are walked from the first to end: each counts with the batch as it
    is when it ends. Those that end later were counted when they joined. What the new one does once it is alone
    is not counted.
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
