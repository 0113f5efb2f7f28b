"""The continuous scheduler, the first scheduler on Spyre: all running sequences have the same tkv (padded length).

Source of every rule: docs/scheduling-rules.md. The engine core calls ``plan`` for the next step, runs that step, and
then calls ``commit`` with the ids of the requests that ended in the step.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.config import ResolvedLimits
from engine.kv_cache.block_hash import TokenSource
from engine.kv_cache.block_pool import BlockPool
from engine.kv_cache.blocks import BLOCK_SIZE, round_up_to_block
from engine.scheduling.continuous.admission import (
    Candidate,
    Running,
    fits_blocks,
    fits_context,
    largest_batch_tkv,
)
from engine.scheduling.padding import blocks_reserved, blocks_used, padding_blocks, tkv_with_prompt
from engine.scheduling.plan import Decode, Idle, Prefill, SchedulerState, StepPlan


@dataclass(slots=True, eq=False)
class ScheduledSequence:
    """The state of a request in the continuous scheduler.

    ``left_padding`` is in tokens, including whole blocks of padding. A sequence has tkv - ``left_padding`` tokens in
    the KV cache. A decode adds one token to every sequence and 1 to tkv, so it does not change ``left_padding``.
    """

    request_id: str
    prompt_length: int
    max_tokens: int
    left_padding: int = 0


class _Rows(NamedTuple):
    """The fields of a ``Decode`` that change only if a sequence joins or leaves, or if padding or blocks change."""

    left_paddings: tuple[int, ...]
    block_tables: tuple[tuple[int, ...], ...]


class _Refusal(NamedTuple):
    """The last request that could not join because of ``max_batch_tkv_limit``.

    ``running`` has the requests that were running at that time, and ``tkv`` is the tkv that the batch would have had
    together with the refused request.
    """

    request_id: str
    running: tuple[str, ...]
    tkv: int


NO_REFUSAL = _Refusal("", (), 0)


class ContinuousScheduler:
    """The continuous scheduler.

    Requests start strictly in the order of their arrival. A step is the prefill of one prompt or a decode of all
    running sequences; a prefill has priority.
    """

    def __init__(self, limits: ResolvedLimits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.available_blocks)
        self._tkv = 0
        self._waiting: deque[ScheduledSequence] = deque()
        self._running: list[ScheduledSequence] = []  # newest first
        self._ended: list[ScheduledSequence] = []  # keep their blocks until after the admission of the next step
        self._left_since_shift = False  # whether a sequence left since padding was last removed
        self._plan: StepPlan = Idle()
        self._kept_rows: _Rows | None = None
        self._kept_running: tuple[str, ...] = ()
        self._kept_waiting: tuple[str, ...] | None = None
        self._refusal = NO_REFUSAL
        # Whether a waiting request was aborted since the last step: then one more step runs, even if it is empty.
        self._aborted_in_queue = False

    def add(self, request_id: str, prompt_length: int, max_tokens: int, tokens: TokenSource | None = None) -> None:  # noqa: ARG002
        """Append a request to the queue. ``prompt_length`` and ``max_tokens`` are at least 1. ``tokens`` is unused."""
        self._waiting.append(ScheduledSequence(request_id, prompt_length, max_tokens))
        self._kept_waiting = None

    def abort(self, request_id: str) -> bool:
        """Abort a request between two steps. Return False if no request with this id is queued or running.

        A running request is treated like one that has finished: the next step frees its blocks, but only after it has
        checked whether a waiting request can join.
        """
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                self._kept_waiting = None
                if request_id == self._refusal.request_id:
                    self._refusal = NO_REFUSAL  # A later request may have the same id.
                self._aborted_in_queue = True
                return True
        for sequence in self._running:
            if sequence.request_id == request_id:
                self._end(sequence)
                return True
        return False

    def plan(self) -> StepPlan:
        """Choose the next step, free the blocks of ended sequences, remove padding, and allocate blocks.

        Source: docs/scheduling-rules.md, "One step", 1 to 3.

        Whether the first request in the queue can join is decided before the blocks of sequences that ended in the
        previous step are freed.

        Raises OutOfBlocksError if no request runs, and the first one in the queue needs more blocks than the whole KV
        cache has. That request stays first until it is aborted.
        """
        joining = self._waiting[0] if self._waiting and self._may_join(self._waiting[0]) else None
        self._aborted_in_queue = False
        if self._ended:
            self._free_ended()
        self._remove_padding()
        if joining is not None:
            self._plan = self._prefill(joining)
            self._waiting.popleft()
            self._refusal = NO_REFUSAL
            # Avoids building the tuple of a long queue again for each request that leaves it.
            self._kept_waiting = self._kept_waiting and self._kept_waiting[1:]
        elif self._running:
            self._plan = self._decode()
        else:
            self._tkv = 0
            self._plan = Idle()
        return self._plan

    def commit(self, ended: Collection[str]) -> None:
        """Record that the planned step ran, and that the requests with the ids ``ended`` ended in that step.

        Source: docs/scheduling-rules.md, "One step", 4.
        """
        if isinstance(self._plan, Decode):
            self._tkv += 1
        if ended:
            for sequence in [s for s in self._running if s.request_id in ended]:
                self._end(sequence)
        self._plan = Idle()

    def state(self) -> SchedulerState:
        """Return the observable state of the scheduler. It must not be called during a step."""
        if self._kept_waiting is None:
            self._kept_waiting = tuple([s.request_id for s in self._waiting])
        pool = self.pool
        return SchedulerState(self._tkv, self._kept_waiting, self._kept_running, pool.reserved_total, pool.used_total)

    @property
    def has_work(self) -> bool:
        """Return whether another step would change anything, including a step that only frees blocks."""
        return bool(self._waiting or self._running or self._ended or self._tkv or self._aborted_in_queue)

    def _end(self, sequence: ScheduledSequence) -> None:
        self._running.remove(sequence)
        self._ended.append(sequence)
        self._left_since_shift = True
        self._list_running()

    def _free_ended(self) -> None:
        for sequence in self._ended:
            self.pool.free(sequence.request_id)
        self._ended.clear()

    def _may_join(self, sequence: ScheduledSequence) -> bool:
        if not self._running:
            return True
        limits, tkv = self.limits, self._tkv
        if len(self._running) >= limits.max_num_seqs:
            return False
        new = Candidate(sequence.prompt_length, sequence.max_tokens)
        running = [Running(s.prompt_length, s.max_tokens, tkv - s.left_padding) for s in self._running]
        return (
            fits_context(new, running, tkv, limits.max_model_len)
            and fits_blocks(new, tkv, self.pool.unreserved)
            and self._fits_batch_tkv(sequence.request_id, new, running)
        )

    def _fits_batch_tkv(self, request_id: str, new: Candidate, running: Sequence[Running]) -> bool:
        """Return whether the request can join within ``max_batch_tkv_limit``: condition 5 of "Admission".

        After a refusal, the same request is refused again without computing the condition, as long as the same
        sequences run and the tkv that the batch would have with the request is not smaller than before.
        """
        grown = tkv_with_prompt(self._tkv, new.prompt_length)
        refused = self._refusal
        if refused.request_id == request_id and refused.running == self._kept_running and grown >= refused.tkv:
            return False
        if largest_batch_tkv(new, running, self._tkv) <= self.limits.max_batch_tkv_limit:
            return True
        self._refusal = _Refusal(request_id, self._kept_running, grown)
        return False

    def _remove_padding(self) -> None:
        """Remove the whole blocks of left padding that all sequences have in common after a sequence has left."""
        if self._left_since_shift:
            self._left_since_shift = False
            shared = min([s.left_padding for s in self._running], default=0) // BLOCK_SIZE
            self._shift(-shared * BLOCK_SIZE)

    def _shift(self, columns: int) -> None:
        """Add ``columns`` to tkv and to the left padding of every running sequence; negative values remove padding."""
        if columns:
            self._tkv += columns
            for sequence in self._running:
                sequence.left_padding += columns
            self._kept_rows = None

    def _prefill(self, sequence: ScheduledSequence) -> Prefill:
        length = sequence.prompt_length
        tkv = tkv_with_prompt(self._tkv, length) if self._running else round_up_to_block(length)
        self.pool.reserve(sequence.request_id, blocks_reserved(tkv, length, sequence.max_tokens))
        self.pool.allocate(sequence.request_id, blocks_used(tkv, length))
        self._shift(tkv - self._tkv)
        sequence.left_padding = tkv - length
        self._running.insert(0, sequence)
        self._list_running()
        return Prefill(
            sequence.request_id,
            length,
            tkv,
            sequence.left_padding - padding_blocks(tkv, length) * BLOCK_SIZE,
            self.pool.held(sequence.request_id),
        )

    def _decode(self) -> Decode:
        if self._tkv % BLOCK_SIZE == 0:
            self._take_blocks()
        rows = self._rows()
        return Decode(self._kept_running, self._tkv, rows.left_paddings, rows.block_tables)

    def _take_blocks(self) -> None:
        for sequence in self._running:
            self.pool.allocate(sequence.request_id, 1)
        self._kept_rows = None

    def _list_running(self) -> None:
        """Update the stored tuple of the ids of running requests, after a sequence joined or left."""
        self._kept_running = tuple([s.request_id for s in self._running])
        self._kept_rows = None

    def _rows(self) -> _Rows:
        if self._kept_rows is None:
            held = self.pool.held
            tables = [held(request_id) for request_id in self._kept_running]
            self._kept_rows = _Rows(tuple([s.left_padding for s in self._running]), tuple(tables))
        return self._kept_rows
