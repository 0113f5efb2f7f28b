"""The scheduler model of the chunked scheduler: it predicts every step of a workload without using code of the engine.

The model implements only the rules of docs/scheduling-rules-chunked.md, and is meant to be easy to read, not fast.
Blocks have no ids: a ``Block`` stores how many requests hold it and, when it is full, all tokens of the request up to
the end of the block. The list of free blocks is in the order in which blocks are allocated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import RequestWithTokens, TokenIds
from harness.types import BLOCK_SIZE, ChunkingSetup, SchedulingLimits, StepRow, blocks_for, ceil_div


@dataclass(eq=False)
class Block:
    """A block of the KV cache. ``holders`` is the number of requests that hold it.

    ``key`` is the key of the block in the prefix cache: all tokens from the start of the sequence to the end of the
    block. It is None if the block is not in the prefix cache.
    """

    holders: int = 0
    key: TokenIds | None = None


@dataclass(eq=False)
class ModelRequest:
    """The state of a request in the scheduler model, from the step at which it joins until it ends.

    ``computed`` is the number of the request's tokens that are in the KV cache or scheduled, ``hit`` the number that
    were found in the prefix cache, and ``outputs`` the number of generated tokens. ``steps_paused`` is the number of
    consecutive decode steps in which the request has been paused.
    """

    number: int
    plan: RequestWithTokens
    chunk_size: int
    blocks: list[Block] = field(default_factory=list)
    computed: int = 0
    hit: int = 0
    outputs: int = 0
    steps_paused: int = 0

    @property
    def length(self) -> int:
        return len(self.plan.prompt)

    @property
    def padding(self) -> int:
        return ceil_div(self.length, self.chunk_size) * self.chunk_size - _rounded_up(self.length)

    @property
    def reserved(self) -> int:
        return blocks_for(self.length + self.plan.max_tokens) - len(self.blocks)

    @property
    def prefilling(self) -> bool:
        return self.outputs == 0

    @property
    def usable(self) -> int:
        """Return the number of blocks that were found in the prefix cache and that no chunk computes again."""
        chunks = ceil_div(self.length, self.chunk_size)
        whole = min((self.padding + self.hit) // self.chunk_size, chunks - 1)
        return max(0, whole * self.chunk_size - self.padding) // BLOCK_SIZE

    def token_ids(self, end: int) -> TokenIds:
        """Return the first ``end`` tokens of the request: its prompt, followed by its generated tokens."""
        return (self.plan.prompt + self.plan.generated)[:end]


@dataclass
class Engine:
    """The state of the scheduler model between two steps, with the results of the last step.

    ``free`` are the free blocks, and ``cached`` the blocks in the prefix cache. ``withdrawn`` is whether a waiting
    request was aborted since the last step. The other attributes are about the last step. ``chunk_before`` is whether
    it ran a chunk. ``exceeded`` has the values of batch size x tkv above ``max_batch_tkv_limit`` that were avoided by
    pausing requests. ``started`` is the request whose first chunk ran, None if no first chunk did. ``hits`` has (block,
    number of other requests that held it) for each cached block that ``started`` found. ``why`` describes the step.
    """

    limits: SchedulingLimits
    options: ChunkingSetup
    free: list[Block]
    step: int = 0
    tkv: int = 0
    waiting: list[ModelRequest] = field(default_factory=list)
    running: list[ModelRequest] = field(default_factory=list)
    paused: list[ModelRequest] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    cached: list[Block] = field(default_factory=list)
    chunk_before: bool = False
    withdrawn: bool = False
    kind: str = "start"
    exceeded: list[int] = field(default_factory=list)
    started: ModelRequest | None = None
    hits: tuple[tuple[Block, int], ...] = ()
    why: str = "the state before any step"

    # --- admission ----------------------------------------------------------------------------------------------

    @property
    def decoding(self) -> list[ModelRequest]:
        return [request for request in self.running if not request.prefilling]

    def found(self, request: ModelRequest) -> list[Block]:
        """Return the blocks of the longest beginning of the request's prompt that is in the prefix cache."""
        if not self.options.enable_prefix_caching:
            return []
        blocks = (request.length - 1) // BLOCK_SIZE
        matches = (self.cached_block(request.plan.prompt[: (i + 1) * BLOCK_SIZE]) for i in range(blocks))
        return [block for block in takewhile(lambda block: block is not None, matches) if block is not None]

    def cached_block(self, key: TokenIds) -> Block | None:
        """Return the block that was first added to the prefix cache with the key ``key``, None if there is none."""
        return next((block for block in self.cached if block.key == key), None)

    def lacking(self, request: ModelRequest) -> str | None:
        """Return a phrase with the numbers of blocks needed and free, None if enough are free for ``request``."""
        if self.blocks_left(request) >= 0:
            return None
        return f"blocks: {self.needed(request)} needed, {len(self.free)} free, {self.promised} of them reserved"

    def needed(self, request: ModelRequest) -> int:
        """Return how many free blocks the request needs to run to ``max_tokens``.

        A block that the request finds in the prefix cache is not counted if another request holds it.
        """
        held_now = sum(block.holders > 0 for block in self.found(request))
        return blocks_for(request.length + request.plan.max_tokens) - held_now

    @property
    def promised(self) -> int:
        return sum(other.reserved for other in (*self.running, *self.paused))

    def blocks_left(self, request: ModelRequest) -> int:
        """Return the number of free blocks minus the reserved blocks and the blocks that ``request`` needs.

        The number is negative if there are too few blocks to start the request.
        """
        return len(self.free) - self.promised - self.needed(request)

    def obstacle(self, request: ModelRequest) -> str | None:
        """Return a phrase that says why the next chunk of a request can't run now, None if it can."""
        new = request.computed == 0
        if new and not self.running:
            return None
        if self.paused:
            return f"{_named(self.paused)} to be resumed"
        if self.options.interleave and self.chunk_before and self.decoding:
            return f"a decode of {_named(self.decoding)}"
        if new and any(other.prefilling for other in self.running):
            return "the current prefill to end"
        max_num_seqs = self.limits.max_num_seqs or 0
        if new and len(self.running) >= max_num_seqs:
            return f"batch: {len(self.running)} of {max_num_seqs} run"
        applies = self.options.interleave or new
        if (
            applies
            and request.length - max(request.computed, self.computed_or_hit(request)) <= request.chunk_size
            and len(self.decoding) >= max_num_seqs
        ):
            return f"batch: {len(self.decoding)} of {max_num_seqs} decode"
        return None

    def computed_or_hit(self, request: ModelRequest) -> int:
        return len(self.found(request)) * BLOCK_SIZE if request.computed == 0 else request.computed

    # --- one step -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Run the next step."""
        self.step += 1
        self.withdrawn = False
        self.outputs = self.finished = ()
        self.exceeded, self.started, self.hits = [], None, ()
        request = next((request for request in self.running if request.prefilling), None)
        if request is None and self.waiting:
            request = self.waiting[0]
        reason = None if request is None else self.obstacle(request)
        if request is not None and reason is None and request.computed == 0:
            reason = self.lacking(request)
        if request is not None and reason is None:
            self.kind, self.why = "prefill", f"chunk of {request.number}"
            self.chunk(request)
        else:
            head = "nothing to prefill" if request is None else f"{request.number} waits for {reason}"
            self.decode(head)
        self.chunk_before = request is not None and reason is None
        for ended in [r for r in self.running if r.number in self.finished]:
            self.leave(ended)

    def chunk(self, request: ModelRequest) -> None:
        if request.computed == 0:
            self.waiting.remove(request)
            found = self.found(request)
            self.started, self.hits = request, tuple((block, block.holders) for block in found)
            self.share(request, found)
        else:
            self.running.remove(request)
        self.running.insert(0, request)
        first_room = request.chunk_size - request.padding
        room = request.chunk_size if request.computed >= first_room else first_room
        chunks = (request.padding + request.computed) // request.chunk_size + 1
        end_of_chunk = chunks * request.chunk_size - request.padding
        self.extend(request, min(request.length, request.computed + room), min(end_of_chunk, request.length))
        self.tkv = request.length
        if request.computed == request.length:
            self.give_token([request])

    def share(self, request: ModelRequest, blocks: list[Block]) -> None:
        for block in blocks:
            block.holders += 1
            if block in self.free:
                self.free.remove(block)
        request.blocks = list(blocks)
        request.computed = request.hit = len(blocks) * BLOCK_SIZE

    def extend(self, request: ModelRequest, computed: int, written: int) -> None:
        """Allocate blocks for the first ``computed`` tokens of the request.

        Blocks that the first ``written`` tokens fill are added to the prefix cache.
        """
        while len(request.blocks) < blocks_for(computed):
            block = self.free.pop(0)
            if block.key is not None:
                self.cached.remove(block)
            block.holders, block.key = 1, None
            request.blocks.append(block)
        request.computed = computed
        if self.options.enable_prefix_caching:
            for place in range(written // BLOCK_SIZE):
                block = request.blocks[place]
                if block.key is None:
                    block.key = request.token_ids((place + 1) * BLOCK_SIZE)
                    self.cached.append(block)

    def decode(self, head: str) -> None:
        self.choose()
        batch = self.decoding
        if not batch:
            self.kind, self.why = "idle", f"nothing to run, {head}"
            self.tkv = 0
            self.check_for_a_dead_end()
            return
        self.kind, self.why = "decode", f"decode of {_named(batch)}, {head}"
        self.tkv = _tkv(batch)
        for request in batch:
            self.extend(request, request.computed + 1, request.computed + 1)
        self.give_token(batch)

    def choose(self) -> None:
        """Choose which requests decode in the next step, and which are paused."""
        sign = -1 if self.options.long_output_priority else 1
        candidates = [*self.paused, *self.decoding]
        candidates.sort(key=lambda request: (-request.steps_paused, sign * (request.computed - request.length)))
        batch: list[ModelRequest] = []
        for request in candidates:
            trial = [*batch, request]
            if len(trial) * _tkv(trial) <= (self.limits.max_batch_tkv_limit or 0):
                batch = trial
            else:
                self.exceeded.append(len(trial) * _tkv(trial))
        prefilling = [request for request in self.running if request.prefilling]
        staying = [request for request in self.decoding if request in batch]
        self.running = [*staying, *(request for request in batch if request in self.paused), *prefilling]
        self.paused = [request for request in candidates if request not in batch]
        for request in candidates:
            request.steps_paused = 0 if request in batch else request.steps_paused + 1

    def check_for_a_dead_end(self) -> None:
        if self.paused:
            request = self.paused[0]
            limit = self.limits.max_batch_tkv_limit
            reason = f"request {request.number} alone exceeds max_batch_tkv_limit {limit} at tkv {request.computed + 1}"
            raise ImpossibleWorkload(reason, "max_batch_tkv_limit")
        if self.waiting and not self.running:
            reason = f"request {self.waiting[0].number} waits for {self.lacking(self.waiting[0])}"
            raise ImpossibleWorkload(reason, "available_blocks")

    def give_token(self, batch: Sequence[ModelRequest]) -> None:
        for request in batch:
            request.outputs += 1
        self.outputs = tuple(request.number for request in batch)
        self.finished = tuple(request.number for request in batch if self.is_done(request))

    def is_done(self, request: ModelRequest) -> bool:
        """Return whether the request has generated all its tokens, or fills the context."""
        fills_context = request.length + request.outputs >= (self.limits.max_model_len or inf)
        return fills_context or request.outputs == len(request.plan.generated)

    def leave(self, request: ModelRequest) -> None:
        """Remove a request that has ended or was aborted, and free its blocks that no other request holds.

        The last block is freed first. With prefix caching, freed blocks that are not in the prefix cache go to the
        front of the list of free blocks. All other freed blocks go to its end.
        """
        self.withdrawn = self.withdrawn or request in self.waiting
        for place in (self.waiting, self.running, self.paused):
            if request in place:
                place.remove(request)
        for block in request.blocks:
            block.holders -= 1
        freed = [block for block in reversed(request.blocks) if not block.holders]
        first = [block for block in freed if block.key is None and self.options.enable_prefix_caching]
        self.free = [*first, *self.free, *(block for block in freed if block not in first)]
        request.blocks = []

    # --- observation -------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self.paused or self.tkv or self.withdrawn)

    def row(self) -> StepRow:
        alive = [*self.running, *self.paused]
        blocks = {id(block) for request in alive for block in request.blocks}
        return StepRow(
            self.step,
            self.tkv,
            _numbers(self.waiting),
            _numbers(self.running),
            self.outputs,
            self.finished,
            sum(request.reserved for request in alive),
            len(blocks),
            _numbers(self.paused),
            tuple(sorted((request.number, request.usable) for request in alive if request.usable)),
        )


def predict(
    limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[RequestWithTokens]
) -> tuple[StepRow, ...]:
    """Return the step table of a workload, up to the step after which there is no more work. No limit may be None.

    Raises ImpossibleWorkload if a request can never run or continue.
    """
    return tuple(engine.row() for engine in predicted_steps(limits, options, requests))


def explain(limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[RequestWithTokens], step: int) -> str:
    """Return a phrase about what step ``step`` does and, if a request waits for its prefill, why."""
    for engine in predicted_steps(limits, options, requests):
        if engine.step == step:
            return f"step {step}: {engine.why}"
    return f"step {step}: the workload is done"


def predicted_steps(
    limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[RequestWithTokens]
) -> Iterator[Engine]:
    """Yield the state before the first step and after each step.

    In the state after step n, the requests with ``join_step`` n are in the queue, and those with ``abort_step`` n are
    removed. The same ``Engine`` object is yielded each time, and the next step changes it. Raises ImpossibleWorkload if
    a request can never run or continue.
    """
    model_requests = [ModelRequest(number, plan, options.chunk_size) for number, plan in enumerate(requests)]
    engine = Engine(limits, options, [Block() for _ in range(limits.available_blocks or 0)])
    last = max(max(plan.join_step, plan.abort_step or 0) for plan in requests)

    def join_and_abort() -> None:
        engine.waiting += [request for request in model_requests if request.plan.join_step == engine.step]
        for request in model_requests:
            if request.plan.abort_step == engine.step:
                engine.leave(request)

    join_and_abort()
    yield engine
    while engine.has_work or engine.step < last:
        engine.advance()
        join_and_abort()
        yield engine


def _tkv(batch: Sequence[ModelRequest]) -> int:
    """Return tkv after a decode of these requests, in tokens (docs/scheduling-rules-chunked.md, "Decode")."""
    lengths = [request.computed + 1 for request in batch]
    largest = max(map(blocks_for, lengths))
    return max((largest - blocks_for(tokens)) * BLOCK_SIZE + tokens for tokens in lengths)


def _rounded_up(tokens: int) -> int:
    """Return ``tokens`` rounded up to a multiple of the block size."""
    return blocks_for(tokens) * BLOCK_SIZE


def _numbers(requests: Sequence[ModelRequest]) -> tuple[int, ...]:
    return tuple(request.number for request in requests)


def _named(requests: Sequence[ModelRequest]) -> str:
    return " ".join(map(str, _numbers(requests)))
