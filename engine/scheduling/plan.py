"""What one step will do, as a value: made by a scheduler, carried out by an executor, kept in the record.

Named tuples rather than dataclasses: they are as frozen, and the scheduler makes one a step, a hundred
thousand times a second in simulation.
"""

from collections.abc import Mapping
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


class PrefillChunk(NamedTuple):
    """Run chunk ``number`` (from 0) of one prompt; the last one yields its first token.

    ``left_padding`` (tokens, whole blocks) stands before the whole prompt, so chunk ``number`` has the columns from
    ``number * chunk_size`` on. ``token_ids`` are the prompt's in it, the first of them at position ``start``.
    ``blocks`` are all that the request holds, the first ``hit_blocks`` of them found in the cache: nothing may be
    written to those.
    """

    request_id: str
    number: int
    chunk_size: int
    left_padding: int
    start: int
    token_ids: tuple[int, ...]
    blocks: tuple[int, ...]
    hit_blocks: int
    is_last: bool

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Who gets a token."""
        return (self.request_id,) if self.is_last else ()


class AlignedDecode(NamedTuple):
    """Run one token of each of these sequences, every one at a tkv of its own.

    By row: ``computed`` tokens were in the cache before the step, ``tkvs`` is padding and tokens after it (all of them
    in the same block), and ``block_tables`` lists the blocks held, not yet padded.
    """

    request_ids: tuple[str, ...]
    computed: tuple[int, ...]
    tkvs: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class Part(NamedTuple):
    """One request's part of a mixed step: compute ``token_ids``, which stand behind ``start`` tokens in its cache.

    ``before`` are the tokens in front of them in the same block, none where ``start`` is the beginning of a block or
    this is a decode. ``blocks`` are all that the request holds. ``is_decode``: the request ran before this step, and
    this is the last token it has. ``yields_token``: with these it has computed all it has, so it gets a token.
    """

    request_id: str
    start: int
    token_ids: tuple[int, ...]
    before: tuple[int, ...]
    blocks: tuple[int, ...]
    is_decode: bool
    yields_token: bool

    @property
    def stop(self) -> int:
        """Tokens in its cache after the step."""
        return self.start + len(self.token_ids)


class MixedStep(NamedTuple):
    """Run the parts of several requests, decodes and chunks of known tokens, in the order they were scheduled.

    A part may read a block that an earlier one writes in this step: what is scheduled is found immediately.
    ``preempted`` lost their blocks in the step, the first evicted first. ``hits`` has (request, tokens) for each
    request admitted in it, also where it found nothing. No parts: nothing runs.
    """

    parts: tuple[Part, ...]
    preempted: tuple[str, ...]
    hits: tuple[tuple[str, int], ...]

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Who gets a token."""
        return tuple([part.request_id for part in self.parts if part.yields_token])

    @property
    def scheduled(self) -> tuple[tuple[str, int], ...]:
        """(request, tokens computed) of each part."""
        return tuple([(part.request_id, len(part.token_ids)) for part in self.parts])

    @property
    def kind(self) -> str:
        """``prefill``, ``decode``, ``mixed`` where it has both, or ``idle``."""
        kinds = {part.is_decode for part in self.parts}
        if len(kinds) == 2:
            return "mixed"
        return "idle" if not kinds else "decode" if kinds.pop() else "prefill"


class Idle(NamedTuple):
    """Nothing to run. The step still frees the blocks of the sequences that ended before it."""

    @property
    def request_ids(self) -> tuple[str, ...]:
        return ()


Runnable = Prefill | Decode | PrefillChunk | AlignedDecode | MixedStep
"""What an executor carries out."""

StepPlan = Runnable | Idle


def kind_of(plan: StepPlan) -> str:
    """``prefill``, ``decode``, ``mixed`` or ``idle``, whichever scheduler planned it."""
    return plan.kind if isinstance(plan, MixedStep) else _KINDS[type(plan)]


_KINDS: Mapping[type[StepPlan], str] = {
    Prefill: "prefill",
    PrefillChunk: "prefill",
    Decode: "decode",
    AlignedDecode: "decode",
    Idle: "idle",
}


class ChunkedState(NamedTuple):
    """What only the chunked scheduler has to show.

    ``paused`` in the order they are taken in; ``usable_hit_blocks`` (request, blocks) of those whose prefill left out
    what it found in the cache.
    """

    paused: tuple[str, ...]
    usable_hit_blocks: tuple[tuple[str, int], ...]


class TokenBudgetState(NamedTuple):
    """What only the token-budget scheduler has to show: of the last step, empty before the first.

    ``scheduled`` has (request, tokens computed) in order, ``preempted`` and ``hits`` are as in MixedStep.
    """

    scheduled: tuple[tuple[str, int], ...] = ()
    preempted: tuple[str, ...] = ()
    hits: tuple[tuple[str, int], ...] = ()


class SchedulerState(NamedTuple):
    """What can be seen of a scheduler between two steps.

    ``waiting`` is in arrival order, ``running`` newest first; with a token budget, ``waiting`` is in the order in which
    they start and ``running`` in that in which they joined, and there is neither tkv nor a reservation. Block counts
    are sums over the sequences that still hold blocks, the ones that ended in the last step among them (other
    schedulers than the continuous one have freed those: with the chunked one ``n_reserved_blocks`` are still to be
    taken, and a shared block counts once). ``chunked`` and ``token_budget`` are those schedulers' own.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    n_reserved_blocks: int
    n_used_blocks: int
    chunked: ChunkedState | None = None
    token_budget: TokenBudgetState | None = None
