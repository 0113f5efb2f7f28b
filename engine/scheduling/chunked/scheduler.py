"""The chunked scheduler: prompts are computed in chunks between decodes, blocks are shared, and sequences can pause.

Source of every rule: docs/scheduling-rules-chunked.md; names in quotes are its headings.
"""

from collections import deque
from collections.abc import Collection

from engine.config import Chunking, ResolvedLimits
from engine.kv_cache.block_hash import TokenSource
from engine.kv_cache.block_pool import UnschedulableRequestError
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.kv_cache.prefix_pool import PrefixPool
from engine.scheduling.chunked.chunks import Chunks
from engine.scheduling.chunked.pausing import batch_tkv, divide, in_turn, tkvs
from engine.scheduling.chunked.sequence import ChunkedSequence
from engine.scheduling.plan import AlignedDecode, ChunkedState, Idle, PrefillChunk, SchedulerState, StepPlan


class ChunkedScheduler:
    """The chunked scheduler.

    A step is one chunk of one prompt, or a decode of as many running sequences as ``max_batch_tkv_limit`` allows.
    """

    def __init__(self, limits: ResolvedLimits, chunking: Chunking) -> None:
        self.limits = limits
        self.chunking = chunking
        self.pool = PrefixPool(limits.available_blocks, enable_prefix_caching=chunking.enable_prefix_caching)
        self._tkv = 0
        self._waiting: deque[ChunkedSequence] = deque()
        self._running: list[ChunkedSequence] = []  # including the sequence in prefill
        self._paused: list[ChunkedSequence] = []
        self._prefilling: ChunkedSequence | None = None
        self._ran_a_chunk = False  # whether the previous step was a chunk
        # Whether a waiting request was aborted since the last step: then one more step runs, even if it is empty.
        self._aborted_in_queue = False

    def add(self, request_id: str, prompt_length: int, max_tokens: int, tokens: TokenSource) -> None:
        """Append a request to the queue. ``prompt_length`` and ``max_tokens`` are at least 1.

        ``tokens`` has the token ids of the request. The scheduler hashes them to find and to register blocks in the
        prefix cache.
        """
        chunks = Chunks(prompt_length, self.chunking.chunk_size)
        self._waiting.append(ChunkedSequence(request_id, chunks, max_tokens, tokens))

    def abort(self, request_id: str) -> bool:
        """Abort a request between two steps, and free its blocks immediately.

        Return False if no request with this id is queued, running or paused.
        """
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                self._aborted_in_queue = True
                return True
        for sequence in [*self._running, *self._paused]:
            if sequence.request_id == request_id:
                self._end(sequence)
                return True
        return False

    def plan(self) -> StepPlan:
        """Choose the next step and allocate its blocks.

        Source: docs/scheduling-rules-chunked.md, "Which kind of step".

        Raises UnschedulableRequestError in two cases: no request runs, and the first one in the queue needs more blocks
        than the whole KV cache has; or all sequences are paused, because the tkv of each exceeds
        ``max_batch_tkv_limit``. Further calls raise the error again until the request that it names is aborted.
        """
        self._aborted_in_queue = False
        chunk = self._next_chunk()
        if chunk is not None:
            return chunk
        self._ran_a_chunk = False
        self._pause()
        decoding = self._decoding()
        if not decoding:
            self._refuse_to_stall()
            self._tkv = 0
            return Idle()
        return self._decode(decoding)

    def commit(self, ended: Collection[str]) -> None:
        """Record that the planned step ran. ``ended`` has the ids of the requests that ended in it.

        The blocks of these requests are freed.
        """
        if ended:
            for sequence in [s for s in self._running if s.request_id in ended]:
                self._end(sequence)

    def state(self) -> SchedulerState:
        """Return the observable state of the scheduler. It must not be called during a step."""
        alive = [*self._running, *self._paused]
        hits = [(s.request_id, s.usable_blocks) for s in alive if s.usable_blocks]
        return SchedulerState(
            self._tkv,
            tuple([s.request_id for s in self._waiting]),
            tuple([s.request_id for s in self._running]),
            self.pool.reserved_total,
            self.pool.used_total,
            ChunkedState(tuple([s.request_id for s in self._paused]), tuple(hits)),
        )

    @property
    def has_work(self) -> bool:
        """Return whether another step would change the state of the scheduler."""
        return bool(self._waiting or self._running or self._paused or self._tkv or self._aborted_in_queue)

    # --- which step ---------------------------------------------------------------------------------------------

    def _next_chunk(self) -> PrefillChunk | None:
        """Return the chunk that runs in this step; None if no chunk runs ("Which kind of step")."""
        current = self._prefilling
        if current is not None:
            self._running.remove(current)
            if not self._may_interleave():
                self._running.append(current)
                return None
            self._running.insert(0, current)
        elif self._waiting and self._may_start():
            found = self._found(self._waiting[0])
            if not self._fits(self._waiting[0], found):
                return None
            current = self._start(found)
        return None if current is None else self._chunk(current)

    def _may_start(self) -> bool:
        """Return whether a waiting request may start its prefill. Called only while no prefill is in progress.

        The result is the same for every waiting request. ``_fits`` checks whether enough blocks are available for a
        request.
        """
        if not self._running:
            return True
        return self._may_interleave() and len(self._running) < self.limits.max_num_seqs

    def _may_interleave(self) -> bool:
        """Return whether a chunk may run in this step.

        No chunk runs while a sequence is paused. With ``interleave``, no chunk runs directly after another while
        sequences can decode.
        """
        if self._paused:
            return False
        return not (self.chunking.interleave and self._ran_a_chunk and self._decoding())

    def _decoding(self) -> list[ChunkedSequence]:
        return [sequence for sequence in self._running if sequence is not self._prefilling]

    def _fits(self, sequence: ChunkedSequence, found: tuple[int, ...]) -> bool:
        """Return whether enough blocks are free and unreserved for the sequence to run to its ``max_tokens``."""
        return self.pool.worst_case(sequence.most_blocks, found) <= self.pool.unreserved

    # --- prefill ------------------------------------------------------------------------------------------------

    def _found(self, sequence: ChunkedSequence) -> tuple[int, ...]:
        if not self.chunking.enable_prefix_caching or sequence.tokens.skip_reading_prefix_cache:
            return ()
        return self.pool.find(sequence.keys_to_look_for)

    def _start(self, found: tuple[int, ...]) -> ChunkedSequence:
        sequence = self._waiting.popleft()
        self.pool.open(sequence.request_id, found, sequence.most_blocks)
        sequence.computed = sequence.hit = len(found) * BLOCK_SIZE
        sequence.shareable = len(found)
        self._running.insert(0, sequence)
        self._prefilling = sequence
        return sequence

    def _chunk(self, sequence: ChunkedSequence) -> PrefillChunk:
        chunks, before = sequence.chunks, sequence.computed
        number = chunks.number_at(before)
        start = max(0, number * chunks.chunk_size - chunks.left_padding)
        stop = min((number + 1) * chunks.chunk_size - chunks.left_padding, sequence.prompt_length)
        self._grow(sequence, chunks.next_step(before), stop)
        is_last = sequence.computed == sequence.prompt_length
        if is_last:
            self._prefilling = None
        self._ran_a_chunk = True
        self._tkv = sequence.prompt_length
        return PrefillChunk(
            sequence.request_id,
            number,
            chunks.chunk_size,
            chunks.left_padding,
            start,
            tuple(sequence.tokens.token_ids_between(start, stop)),
            self.pool.held(sequence.request_id),
            sequence.hit // BLOCK_SIZE,
            is_last,
        )

    def _grow(self, sequence: ChunkedSequence, tokens: int, written: int) -> None:
        """Count ``tokens`` more tokens as computed, allocate their blocks, and register the blocks that are full.

        ``written`` is the number of tokens of the sequence in the KV cache after the step. It can be smaller than
        ``sequence.computed``: if the tokens found in the prefix cache end in the middle of a chunk, the step counts
        more tokens than its chunk contains. The tokens that the chunk does not contain are written one step later, and
        their blocks are registered then. So no other request finds these blocks if this request is aborted between the
        two steps.
        """
        holder, held = sequence.request_id, blocks_for(sequence.computed)
        sequence.computed += tokens
        if blocks_for(sequence.computed) > held:
            self.pool.take(holder, blocks_for(sequence.computed) - held)
        full = written // BLOCK_SIZE
        if self.chunking.enable_prefix_caching and full > sequence.shareable:
            table, keys = self.pool.held(holder), sequence.keys_of(full)
            for position in range(sequence.shareable, full):
                self.pool.name(table[position], keys[position])
            sequence.shareable = full

    # --- decode -------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        """Choose which sequences decode and which pause ("Pausing")."""
        # Nothing needs to pause if the whole batch is within the limit.
        if not self._paused and batch_tkv(self._decoding()) <= self.limits.max_batch_tkv_limit:
            return
        before = [*self._paused, *self._decoding()]
        taken = in_turn(before, longest_first=self.chunking.long_output_priority)
        decoding, paused = divide(taken, self.limits.max_batch_tkv_limit)
        resumed = [sequence for sequence in decoding if sequence in self._paused]
        prefilling = [s for s in self._running if s is self._prefilling]
        self._running = [s for s in self._decoding() if s not in paused] + resumed + prefilling
        self._paused = paused
        for sequence in decoding:
            sequence.paused_for = 0
        for sequence in paused:
            sequence.paused_for += 1

    def _decode(self, decoding: list[ChunkedSequence]) -> AlignedDecode:
        computed = [sequence.computed for sequence in decoding]
        own = tkvs(computed)
        for sequence in decoding:
            self._grow(sequence, 1, sequence.computed + 1)
        self._tkv = max(own)
        ids = tuple([sequence.request_id for sequence in decoding])
        tables = tuple([self.pool.held(request_id) for request_id in ids])
        return AlignedDecode(ids, tuple(computed), tuple(own), tables)

    def _refuse_to_stall(self) -> None:
        """Raise UnschedulableRequestError if there are requests that can run neither now nor in a later step.

        This method is called if no request can run in this step.
        """
        if self._paused:
            first = in_turn(self._paused, longest_first=self.chunking.long_output_priority)[0]
            raise UnschedulableRequestError(
                f"request {first.request_id} cannot decode: its tkv {first.computed + 1} "
                f"exceeds max_batch_tkv_limit {self.limits.max_batch_tkv_limit} even if it decodes alone: "
                "shorten its prompt, reduce its max_tokens, or increase the limit",
                first.request_id,
            )
        if self._waiting and not self._running:
            head = self._waiting[0]
            raise UnschedulableRequestError(
                f"request {head.request_id} needs up to {head.most_blocks} blocks, "
                f"but the KV cache has only {self.pool.available}: shorten its prompt or reduce its max_tokens",
                head.request_id,
            )

    def _end(self, sequence: ChunkedSequence) -> None:
        (self._running if sequence in self._running else self._paused).remove(sequence)
        if sequence is self._prefilling:
            self._prefilling = None
        self.pool.free(sequence.request_id)
