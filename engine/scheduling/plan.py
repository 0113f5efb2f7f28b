"""What one step will do, as a value: made by a scheduler, carried out by an executor, kept in the record.

Named tuples rather than dataclasses: they are as frozen, and the scheduler makes one a step, a hundred
thousand times a second in simulation.
"""

from typing import NamedTuple


class Prefill(NamedTuple):
    """Run one prompt and sample its first token.

    ``left_padding`` counts the pads inside the first held block (0 to 63): whole blocks of padding were
    cut off. ``len(blocks) * 64`` positions are computed: the left padding, the prompt, and right padding up
    to the block's end. ``tkv`` is the batch's after the sequence has joined.
    """

    request_id: str
    prompt_length: int
    tkv: int
    left_padding: int
    blocks: tuple[int, ...]

    @property
    def request_ids(self) -> tuple[str, ...]:
        return (self.request_id,)


class Decode(NamedTuple):
    """Run one token of every running sequence, newest sequence first.

    ``tkv`` counts the tokens in the cache before the step, padding included: each new token is written to
    offset ``tkv % 64`` of its sequence's last block. ``left_paddings`` and ``block_tables`` go by row like
    ``request_ids``; a block table lists the blocks a sequence holds, oldest first, and is not yet padded.
    """

    request_ids: tuple[str, ...]
    tkv: int
    left_paddings: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class Idle(NamedTuple):
    """Nothing to run. The step still frees the blocks of the sequences that ended before it."""

    @property
    def request_ids(self) -> tuple[str, ...]:
        return ()


StepPlan = Prefill | Decode | Idle


class SchedulerState(NamedTuple):
    """What can be seen of a scheduler between two steps.

    ``waiting`` is in arrival order, ``running`` newest first. Block counts are sums over the sequences that
    still hold blocks, the ones that ended in the last step among them.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    n_reserved_blocks: int
    n_used_blocks: int
