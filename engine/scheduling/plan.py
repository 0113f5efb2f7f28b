"""Step plans as values: created by a scheduler, run by an executor, stored in the step record.

Named tuples instead of dataclasses: they are frozen, too, and faster to create; in simulation a scheduler creates a
hundred thousand a second.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Prefill(NamedTuple):
    """Run one prompt and sample its first token.

    ``left_padding`` is the padding inside the first block held (0 to 63): whole blocks of padding are not computed.
    ``len(blocks) * 64`` positions are computed: the left padding, the prompt, and right padding to the end of the
    block. ``tkv`` is that of the batch after the sequence has joined.
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

    ``tkv`` counts the tokens in the cache before the step, padding included: each new token is written to offset ``tkv
    % 64`` of its sequence's last block. ``left_paddings`` and ``block_tables`` are by row like ``request_ids``; a block
    table lists the blocks that a sequence holds, oldest first, and is not yet padded.
    """

    request_ids: tuple[str, ...]
    tkv: int
    left_paddings: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class PrefillChunk(NamedTuple):
    """Run chunk ``number`` (from 0) of one prompt; the last one yields its first token.

    ``left_padding`` (tokens, whole blocks) stands before the whole prompt, so chunk ``number`` has the columns from
    ``number * chunk_size`` on. ``token_ids`` are the prompt tokens in the chunk, the first of them at position
    ``start``. ``blocks`` are all blocks that the request holds; the first ``hit_blocks`` of them were found in the
    cache and must not be written to.
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
        """The requests that get a token."""
        return (self.request_id,) if self.is_last else ()


class AlignedDecode(NamedTuple):
    """Run one token of each of these sequences, each at its own tkv.

    By row: ``computed`` tokens were in the cache before the step, ``tkvs`` is padding and tokens after it (all of them
    in the same block), and ``block_tables`` lists the blocks held, not yet padded.
    """

    request_ids: tuple[str, ...]
    computed: tuple[int, ...]
    tkvs: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class Part(NamedTuple):
    """One request's part of a mixed step: compute ``token_ids``, which follow ``start`` tokens in its cache.

    ``before`` are the tokens before them in the same block, empty where ``start`` is a block boundary or the part is a
    decode. ``blocks`` are all blocks that the request holds. ``is_decode``: the request ran before this step, and this
    is its newest token. ``yields_token``: the part computes the last known token of the request, so a token is sampled.
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
        """The number of tokens in the request's cache after the step."""
        return self.start + len(self.token_ids)


class MixedStep(NamedTuple):
    """Run the parts of several requests, decodes and chunks of known tokens, in the order they were scheduled.

    A part may read a block that an earlier part writes in the same step: a scheduled block can be found immediately.
    ``preempted`` lists the requests that lost their blocks in the step, in order of eviction. ``hits`` has (request,
    tokens) for each request admitted in the step, also where nothing was found. Without parts nothing runs.
    """

    parts: tuple[Part, ...]
    preempted: tuple[str, ...]
    hits: tuple[tuple[str, int], ...]

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests that get a token."""
        return tuple([part.request_id for part in self.parts if part.yields_token])

    @property
    def scheduled(self) -> tuple[tuple[str, int], ...]:
        """Pairs (request, tokens computed) of the parts."""
        return tuple([(part.request_id, len(part.token_ids)) for part in self.parts])

    @property
    def kind(self) -> str:
        """``prefill``, ``decode``, ``mixed`` (both) or ``idle``."""
        kinds = {part.is_decode for part in self.parts}
        if len(kinds) == 2:
            return "mixed"
        return "idle" if not kinds else "decode" if kinds.pop() else "prefill"


class Idle(NamedTuple):
    """Run nothing. The step still frees the blocks of sequences that ended before it."""

    @property
    def request_ids(self) -> tuple[str, ...]:
        return ()


Runnable = Prefill | Decode | PrefillChunk | AlignedDecode | MixedStep
"""The plans that an executor runs."""

StepPlan = Runnable | Idle


def kind_of(plan: StepPlan) -> str:
    """Return the kind of a plan of any scheduler: ``prefill``, ``decode``, ``mixed`` or ``idle``."""
    return plan.kind if isinstance(plan, MixedStep) else _KINDS[type(plan)]


_KINDS: Mapping[type[StepPlan], str] = {
    Prefill: "prefill",
    PrefillChunk: "prefill",
    Decode: "decode",
    AlignedDecode: "decode",
    Idle: "idle",
}


class ChunkedState(NamedTuple):
    """State of the chunked scheduler only.

    ``paused`` is in the order of selection; ``usable_hit_blocks`` has (request, blocks) for requests whose prefill
    skipped blocks found in the cache.
    """

    paused: tuple[str, ...]
    usable_hit_blocks: tuple[tuple[str, int], ...]


class TokenBudgetState(NamedTuple):
    """State of the token-budget scheduler only: about the last step, empty before the first.

    ``scheduled`` has (request, tokens computed) in order, ``preempted`` and ``hits`` are as in MixedStep.
    """

    scheduled: tuple[tuple[str, int], ...] = ()
    preempted: tuple[str, ...] = ()
    hits: tuple[tuple[str, int], ...] = ()


class SchedulerState(NamedTuple):
    """The observable state of a scheduler between two steps.

    ``waiting`` is in arrival order, ``running`` newest first. With a token budget, ``waiting`` is in the order of
    admission and ``running`` in the order of joining, and there is neither a tkv nor a reservation. Block counts are
    sums over the sequences that still hold blocks; with the continuous scheduler these include sequences that ended in
    the last step. With the chunked scheduler ``n_reserved_blocks`` counts blocks still to be allocated, and a shared
    block counts once. ``chunked`` and ``token_budget`` are set by those schedulers only.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    n_reserved_blocks: int
    n_used_blocks: int
    chunked: ChunkedState | None = None
    token_budget: TokenBudgetState | None = None
