"""The conditions on which the first request in the queue joins the running batch, one function per condition.

Source: docs/scheduling-rules.md, "Admission"; that section numbers the conditions. The conditions apply to the batch
before the step removes padding. Lengths are in tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.scheduling.padding import blocks_reserved, tkv_with_prompt


class Candidate(NamedTuple):
    """A waiting request: the length of its prompt in tokens, and its ``max_tokens``."""

    prompt_length: int
    max_tokens: int


class Running(NamedTuple):
    """A running sequence. ``computed`` is the number of its tokens in the KV cache, including the prompt."""

    prompt_length: int
    max_tokens: int
    computed: int

    @property
    def remaining(self) -> int:
        """Return the number of tokens that the sequence may still generate."""
        return self.max_tokens - (self.computed - self.prompt_length)


def fits_context(new: Candidate, running: Sequence[Running], tkv: int, max_model_len: int) -> bool:
    """Return whether the new and the running sequences can generate their ``max_tokens`` within the context.

    This is condition 3. ``tkv`` is the tkv of the running batch. Running sequences are checked only if the new sequence
    increases tkv.
    """
    grown = tkv_with_prompt(tkv, new.prompt_length)
    room = max_model_len - grown
    if new.max_tokens > room:
        return False
    return grown == tkv or all(sequence.remaining <= room for sequence in running)


def fits_blocks(new: Candidate, tkv: int, unreserved: int) -> bool:
    """Return whether ``unreserved`` blocks are enough for the new sequence and its ``max_tokens`` (condition 4)."""
    grown = tkv_with_prompt(tkv, new.prompt_length)
    return blocks_reserved(grown, new.prompt_length, new.max_tokens) <= unreserved


def largest_batch_tkv(new: Candidate, running: Sequence[Running], tkv: int) -> int:
    """Return the largest batch size x tkv of the steps in which ``new`` runs with other sequences (condition 5).

    Between two ends of sequences, tkv grows and the batch size does not change, so only the steps in which a sequence
    ends are computed. These are the steps in which the running sequences end, up to the step in which the new sequence
    ends. Later steps were checked when the sequences that run in them joined. Steps in which the new sequence runs
    alone, after all other sequences have ended, do not count.
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
