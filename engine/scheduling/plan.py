"""Step plans, and the state of a scheduler between two steps.

A scheduler creates a plan, an executor runs it, and the step record contains it. Plans are named tuples and not frozen
dataclasses, because named tuples are faster to create: in simulation a scheduler creates 100,000 plans per second.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Prefill(NamedTuple):
    """A prefill of the continuous scheduler: compute one prompt and sample its first token.

    ``blocks`` are the ids of the sequence's blocks. ``left_padding`` is the padding in the first of these blocks, 0 to
    63 tokens; whole blocks of padding are not computed. ``len(blocks) * 64`` positions are computed: the left padding,
    the prompt, and right padding to the end of the last block. ``tkv`` is the padded length of all sequences in the
    batch after this sequence has joined.
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
    """A decode of the continuous scheduler: compute one token of every running sequence, newest sequence first.

    ``tkv`` is the padded length of each sequence in the KV cache before the step: each new token is written to offset
    ``tkv % 64`` of its sequence's last block. ``left_paddings`` (in tokens) and ``block_tables`` have one element for
    each of ``request_ids``. A block table lists the blocks that a sequence holds, oldest first, without padding.
    """

    request_ids: tuple[str, ...]
    tkv: int
    left_paddings: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class PrefillChunk(NamedTuple):
    """A prefill step of the chunked scheduler: compute chunk ``number`` of one prompt. The first chunk is 0.

    The last chunk yields the request's first token. The prompt is padded with ``left_padding`` tokens, a multiple of
    the block size, so that chunk ``number`` begins at column ``number * chunk_size`` of the padded prompt.
    ``token_ids`` are the prompt tokens in the chunk, the first of them at position ``start`` of the prompt. ``blocks``
    are all blocks that the request holds; the first ``hit_blocks`` of them were found in the prefix cache and must not
    be written to.
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
        """Return the ids of the requests that get a token."""
        return (self.request_id,) if self.is_last else ()


class AlignedDecode(NamedTuple):
    """A decode of the chunked scheduler: compute one token of each of ``request_ids``, each at its own tkv.

    The other fields have one element for each request. ``computed`` has the number of its tokens in the KV cache before
    the step. ``tkvs`` has its tkv after the step: tokens plus left padding. With this padding all sequences end in the
    same column of blocks. ``block_tables`` has the ids of the blocks that it holds, without padding.
    """

    request_ids: tuple[str, ...]
    computed: tuple[int, ...]
    tkvs: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class Part(NamedTuple):
    """What a MixedStep computes for one request: the tokens ``token_ids``, from position ``start`` of the request on.

    The first ``start`` tokens of the request are in the KV cache. ``before`` has the ids of the tokens that precede
    position ``start`` in the same block; it is empty if ``start`` begins a block, or if the part is a decode.
    ``blocks`` are all blocks that the request holds. ``is_decode`` means that the request ran before this step, and
    that ``token_ids`` is its newest token. ``yields_token`` means that the part computes the last known token of the
    request, so that its next token is sampled.
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
        """Return the number of tokens of the request in the KV cache after the step."""
        return self.start + len(self.token_ids)


class MixedStep(NamedTuple):
    """A step of the token-budget scheduler: decodes and chunks of known tokens of several requests.

    ``parts`` has one part for each request, in the order in which they were scheduled. A part may read a block that an
    earlier part of the same step writes, because other requests can share a block as soon as it is scheduled. A step
    without parts computes nothing. ``preempted`` lists the requests that were preempted in the step, in the order of
    preemption. ``hits`` has a pair (request id, number of its tokens found in the prefix cache) for each request that
    was admitted in the step; the number can be 0.
    """

    parts: tuple[Part, ...]
    preempted: tuple[str, ...]
    hits: tuple[tuple[str, int], ...]

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Return the ids of the requests that get a token."""
        return tuple([part.request_id for part in self.parts if part.yields_token])

    @property
    def scheduled(self) -> tuple[tuple[str, int], ...]:
        """Return a pair (request id, number of its tokens that this step computes) for each part."""
        return tuple([(part.request_id, len(part.token_ids)) for part in self.parts])

    @property
    def kind(self) -> str:
        """Return ``prefill``, ``decode``, ``mixed`` (both in one step) or ``idle`` (nothing is computed)."""
        kinds = {part.is_decode for part in self.parts}
        if len(kinds) == 2:
            return "mixed"
        return "idle" if not kinds else "decode" if kinds.pop() else "prefill"


class Idle(NamedTuple):
    """A step that computes nothing. It still frees the blocks of sequences that ended before it."""

    @property
    def request_ids(self) -> tuple[str, ...]:
        return ()


Runnable = Prefill | Decode | PrefillChunk | AlignedDecode | MixedStep
"""The type of the plans that an executor runs: all except Idle."""

StepPlan = Runnable | Idle


class PromptPart(NamedTuple):
    """The tokens ``start`` to ``stop`` - 1 of a request, which a step computes in a prefill, not in a decode."""

    request_id: str
    start: int
    stop: int


def prompt_parts(plan: Runnable) -> list[PromptPart]:
    """Return, for each request that has a prefill in this step, which of its tokens the step computes.

    With the token-budget scheduler these can include generated tokens: after a preemption they are computed again.
    """
    if isinstance(plan, Prefill):
        return [PromptPart(plan.request_id, 0, plan.prompt_length)]
    if isinstance(plan, PrefillChunk):
        return [PromptPart(plan.request_id, plan.start, plan.start + len(plan.token_ids))]
    if isinstance(plan, MixedStep):
        return [PromptPart(part.request_id, part.start, part.stop) for part in plan.parts if not part.is_decode]
    return []


def kind_of(plan: StepPlan) -> str:
    """Return the kind of a plan of any scheduler.

    The kind is ``prefill`` (one or several prompts or chunks), ``decode``, ``mixed`` (both in one step of the
    token-budget scheduler) or ``idle`` (nothing is computed).
    """
    return plan.kind if isinstance(plan, MixedStep) else _KINDS[type(plan)]


_KINDS: Mapping[type[StepPlan], str] = {
    Prefill: "prefill",
    PrefillChunk: "prefill",
    Decode: "decode",
    AlignedDecode: "decode",
    Idle: "idle",
}


class ChunkedState(NamedTuple):
    """The part of a SchedulerState that only the chunked scheduler has.

    ``paused`` lists the paused requests in the order in which decodes will select them. ``usable_hit_blocks`` has
    (request id, number of blocks that were found in the prefix cache and are not computed again) for each request for
    which this number is not 0.
    """

    paused: tuple[str, ...]
    usable_hit_blocks: tuple[tuple[str, int], ...]


class TokenBudgetState(NamedTuple):
    """The part of a SchedulerState that only the token-budget scheduler has. It describes the last step.

    ``scheduled``, ``preempted`` and ``hits`` are as in MixedStep. Before the first step all three are empty.
    """

    scheduled: tuple[tuple[str, int], ...] = ()
    preempted: tuple[str, ...] = ()
    hits: tuple[tuple[str, int], ...] = ()


class SchedulerState(NamedTuple):
    """The observable state of a scheduler between two steps.

    Continuous scheduler: ``waiting`` is in the order of arrival, and ``running`` begins with the request that joined
    last. Chunked scheduler: the same, except that resumed requests, and a prefill whose next chunk has to wait, are
    moved to the end of ``running``. Token-budget scheduler: ``waiting`` is in the order in which requests will be
    admitted, and ``running`` begins with the request that joined first; ``tkv`` and ``n_reserved_blocks`` are 0.

    The numbers of blocks are sums over all sequences that hold blocks. The continuous scheduler counts the sequences
    that ended in the last step, too. With the chunked and the token-budget scheduler, a shared block counts once. With
    the chunked scheduler, ``n_reserved_blocks`` counts only blocks that are still to be allocated. ``chunked`` and
    ``token_budget`` have the state that only the scheduler of that name has; with another scheduler they are None.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    n_reserved_blocks: int
    n_used_blocks: int
    chunked: ChunkedState | None = None
    token_budget: TokenBudgetState | None = None
