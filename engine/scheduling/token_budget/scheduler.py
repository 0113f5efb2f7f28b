"""The token-budget scheduler: vLLM's own scheduler, which divides a budget of tokens among the requests of a step.

Source of every rule: docs/scheduling-rules-token-budget.md; names such as "TB-RUNNING" are its headings.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from engine.config import ResolvedLimits, TokenBudget
from engine.kv_cache.block_hash import TokenSource
from engine.kv_cache.block_pool import UnschedulableRequestError
from engine.kv_cache.shared_pool import SharedPool
from engine.scheduling.plan import MixedStep, Part, SchedulerState, TokenBudgetState
from engine.scheduling.token_budget.sequence import BudgetSequence


@dataclass(slots=True)
class _Draft:
    """A step while it is planned.

    ``budget`` is the number of tokens that may still be scheduled. ``threshold`` is the maximum number of tokens of one
    request in this step (``long_prefill_token_threshold``); 0 means unlimited. ``parts``, ``preempted`` and ``hits``
    have the same meaning as the fields of MixedStep, to which they are passed at the end.
    """

    budget: int
    threshold: int
    parts: list[Part] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    hits: list[tuple[str, int]] = field(default_factory=list)

    def within_threshold(self, tokens: int) -> int:
        """Return how many of ``tokens`` tokens of one request ``threshold`` allows in this step ("TB-THRESHOLD")."""
        return min(tokens, self.threshold) if self.threshold else tokens


class TokenBudgetScheduler:
    """The token-budget scheduler.

    A step schedules tokens of running requests, then of waiting requests in the order of the queue. If too few blocks
    are free for a running request, the running request that joined last is preempted: it loses its blocks.
    """

    def __init__(self, limits: ResolvedLimits, options: TokenBudget) -> None:
        self.limits = limits
        self.options = options
        keyless_first = options.enable_prefix_caching or options.rules == "0.32"
        self.pool = SharedPool(limits.available_blocks, keyless_first=keyless_first)
        self._waiting: deque[BudgetSequence] = deque()
        self._running: list[BudgetSequence] = []  # in the order in which they joined
        self._plan = MixedStep((), (), ())
        # Whether a request ended or was aborted since the last step: then one more step runs, even if it is empty.
        self._request_left = False

    def add(self, request_id: str, prompt_length: int, max_tokens: int, tokens: TokenSource) -> None:  # noqa: ARG002
        """Append a request to the queue. ``prompt_length`` is at least 1; ``max_tokens`` is not used.

        ``tokens`` has the token ids of the request.
        """
        self._waiting.append(BudgetSequence(request_id, prompt_length, tokens, self.options.block_size))

    def abort(self, request_id: str) -> bool:
        """Abort a request between two steps, and free its blocks immediately.

        Return False if no request with this id is queued or running.
        """
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                self._request_left = True
                return True
        for sequence in self._running:
            if sequence.request_id == request_id:
                self._end(sequence)
                return True
        return False

    def plan(self) -> MixedStep:
        """Divide the budget of the next step among the requests, and allocate their blocks.

        Source: docs/scheduling-rules-token-budget.md, "One step".

        Raises UnschedulableRequestError if no request can be scheduled, now or later: for example, no request runs, and
        the first one in the queue needs more blocks than the whole KV cache has. Further calls raise the error again
        until the request that it names is aborted.
        """
        draft = _Draft(self.options.max_num_batched_tokens, self._threshold())
        self._go_on(draft)
        if not draft.preempted:
            self._admit(draft)
            if not draft.parts:
                self._refuse_to_stall()
        self._request_left = False
        self._plan = MixedStep(tuple(draft.parts), tuple(draft.preempted), tuple(draft.hits))
        return self._plan

    def commit(self, ended: Collection[str]) -> None:
        """Record that the planned step ran. ``ended`` has the ids of the requests that ended in it.

        The blocks of these requests are freed.
        """
        yielded = set(self._plan.request_ids)
        for sequence in self._running:
            if sequence.request_id in yielded:
                sequence.generated += 1
        if ended:
            for sequence in [s for s in self._running if s.request_id in ended]:
                self._end(sequence)

    def state(self) -> SchedulerState:
        """Return the observable state of the scheduler. It must not be called during a step."""
        return SchedulerState(
            tkv=0,
            waiting=tuple([s.request_id for s in self._waiting]),
            running=tuple([s.request_id for s in self._running]),
            n_reserved_blocks=0,
            n_used_blocks=self.pool.used_total,
            token_budget=TokenBudgetState(self._plan.scheduled, self._plan.preempted, self._plan.hits),
        )

    @property
    def has_work(self) -> bool:
        """Return whether another step has to run; one empty step runs after the last request has left."""
        return bool(self._waiting or self._running or self._request_left)

    # --- running requests -----------------------------------------------------------------------------------------

    def _threshold(self) -> int:
        """Return the maximum number of tokens of one request in this step; 0 means unlimited ("TB-THRESHOLD")."""
        alone = len(self._running) + len(self._waiting) <= 1
        return 0 if self.options.rules == "0.32" and alone else self.options.long_prefill_token_threshold

    def _go_on(self, draft: _Draft) -> None:
        """Schedule the tokens of running requests, in the order in which they joined ("TB-RUNNING")."""
        for sequence in self._running.copy():
            if not draft.budget or sequence not in self._running:
                return
            tokens = min(draft.within_threshold(sequence.missing), draft.budget, self._room(sequence))
            if tokens <= 0:
                continue
            if not self._make_room(sequence, tokens, draft):
                return
            self._schedule(sequence, tokens, draft, is_decode=sequence.missing == 1)

    def _room(self, sequence: BudgetSequence) -> int:
        """Return how many more tokens of the sequence may be computed before the context is full.

        One position of the context is not counted, because the last token of a full context is never computed.
        """
        return self.limits.max_model_len - 1 - sequence.computed

    def _make_room(self, sequence: BudgetSequence, tokens: int, draft: _Draft) -> bool:
        """Preempt running requests until there are free blocks for the next ``tokens`` tokens of ``sequence``.

        The request that joined last is preempted first ("TB-PREEMPT"). Return False if ``sequence`` itself was
        preempted.
        """
        while self._lacks_blocks(sequence, tokens):
            victim = self._running[-1]
            self._preempt(victim)
            draft.preempted.append(victim.request_id)
            if victim is sequence:
                return False
        return True

    def _lacks_blocks(self, sequence: BudgetSequence, tokens: int) -> bool:
        return self._more_blocks(sequence, tokens) > self.pool.free_total

    def _more_blocks(self, sequence: BudgetSequence, tokens: int) -> int:
        """Return how many blocks must be allocated to compute ``tokens`` more tokens of the sequence."""
        return sequence.blocks_for(sequence.computed + tokens) - len(self.pool.held(sequence.request_id))

    def _preempt(self, sequence: BudgetSequence) -> None:
        """Move a request to the front of the queue. It loses its blocks, but keeps its generated tokens.

        Its attributes ``computed`` and ``shareable`` are set again when it is admitted again.
        """
        self._running.remove(sequence)
        self.pool.free(sequence.request_id)
        self._waiting.appendleft(sequence)

    # --- waiting requests -----------------------------------------------------------------------------------------

    def _admit(self, draft: _Draft) -> None:
        """Start waiting requests in the order of the queue, up to the first that cannot start ("TB-ADMIT")."""
        while self._waiting and draft.budget and len(self._running) < self.limits.max_num_seqs:
            head = self._waiting[0]
            found = self._found(head)
            hit = len(found) * self.options.block_size
            tokens = draft.within_threshold(head.length - hit)
            if tokens > draft.budget and not self.options.enable_chunked_prefill:
                return
            if not self._fits(head, found):
                return
            self._waiting.popleft()
            self._running.append(head)
            self.pool.share(head.request_id, found)
            head.computed, head.shareable = hit, len(found)
            draft.hits.append((head.request_id, hit))
            self._schedule(head, min(tokens, draft.budget), draft, is_decode=False)

    def _found(self, sequence: BudgetSequence) -> tuple[int, ...]:
        """Return the blocks of the longest prefix of the request that is in the prefix cache ("TB-HIT")."""
        if not self.options.enable_prefix_caching or sequence.tokens.skip_reading_prefix_cache:
            return ()
        return self.pool.find(sequence.keys_to_look_for)

    def _fits(self, sequence: BudgetSequence, found: tuple[int, ...]) -> bool:
        """Return whether enough blocks are free for all tokens of the sequence ("TB-WHOLE").

        The step then allocates only the blocks for the tokens that it computes.
        """
        return self.pool.worst_case(sequence.blocks_for(sequence.length), found) <= self.pool.free_total

    def _refuse_to_stall(self) -> None:
        """Raise UnschedulableRequestError if the scheduler has requests.

        This method is called if a step neither schedules nor preempts a request. No later step would be different, so
        the requests could never run.
        """
        if self._running:
            sequence, most = self._running[0], self.limits.max_model_len
            what = (
                f"has {sequence.length} tokens, but at most {most - 1} can be computed with max_model_len {most}: "
                "shorten its prompt"
            )
            raise UnschedulableRequestError(f"request {sequence.request_id} {what}", sequence.request_id)
        if self._waiting:
            head, available = self._waiting[0], self.pool.available
            blocks = head.blocks_for(head.length)
            if blocks > available:
                what = (
                    f"needs {blocks} blocks for its {head.length} tokens, but the KV cache has only {available}: "
                    "shorten its prompt"
                )
            else:
                budget = self.options.max_num_batched_tokens
                what = (
                    f"must be computed in one step, because enable_chunked_prefill is off, but its {head.length} "
                    f"tokens exceed max_num_batched_tokens {budget}: shorten its prompt"
                )
            raise UnschedulableRequestError(f"request {head.request_id} {what}", head.request_id)

    # --- both -----------------------------------------------------------------------------------------------------

    def _schedule(self, sequence: BudgetSequence, tokens: int, draft: _Draft, *, is_decode: bool) -> None:
        """Add a part with the next ``tokens`` tokens of a request to the step, and allocate its blocks.

        With prefix caching, register the blocks that the part fills ("TB-REGISTER").
        """
        start, holder = sequence.computed, sequence.request_id
        stop = start + tokens
        self.pool.take(holder, self._more_blocks(sequence, tokens))
        sequence.computed = stop
        draft.budget -= tokens
        blocks = self.pool.held(holder)
        if self.options.enable_prefix_caching:
            self._register(sequence, blocks)
        begin = start if is_decode else start - start % self.options.block_size
        known = tuple(sequence.tokens.token_ids_between(begin, stop))
        before, token_ids = known[: start - begin], known[start - begin :]
        draft.parts.append(Part(holder, start, token_ids, before, blocks, is_decode, stop == sequence.length))

    def _register(self, sequence: BudgetSequence, blocks: tuple[int, ...]) -> None:
        full = sequence.computed // sequence.block_size
        keys = sequence.keys_of(full)
        for position in range(sequence.shareable, full):
            self.pool.name(blocks[position], keys[position])
        sequence.shareable = full

    def _end(self, sequence: BudgetSequence) -> None:
        self._running.remove(sequence)
        self.pool.free(sequence.request_id)
        self._request_left = True
