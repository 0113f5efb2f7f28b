"""The scheduler model of the token-budget scheduler: it predicts every step of a workload without code of the engine.

The model implements only the rules of docs/scheduling-rules-token-budget.md, and is meant to be easy to read. It does
not distinguish prefill and decode: a request is a growing list of tokens, some of which are not computed yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import RequestWithTokens
from harness.schedulers.token_budget.block_pool import Block, BlockPool, TokenIds
from harness.types import SchedulingLimits, StepRow, TokenBudgetSetup, ceil_div


@dataclass(eq=False)
class ModelRequest:
    """The state of a request in the scheduler model, from the step at which it joins until it ends.

    ``computed`` is the number of the request's tokens that are in the KV cache at the end of the step, and ``outputs``
    the number of tokens that it has generated.
    """

    number: int
    plan: RequestWithTokens
    blocks: list[Block] = field(default_factory=list)
    computed: int = 0
    outputs: int = 0

    @property
    def length(self) -> int:
        return len(self.plan.prompt) + self.outputs

    def token_ids(self, end: int | None = None) -> TokenIds:
        """Return the first ``end`` tokens of the request, or all tokens that it has so far if ``end`` is None."""
        return (self.plan.prompt + self.plan.generated[: self.outputs])[:end]


class Obstacle(NamedTuple):
    """The reason why the head of the queue can't start, described by ``phrase``.

    ``what`` is the limit for which the request waits: ``batch`` (``max_num_seqs``), ``budget``
    (``max_num_batched_tokens``) or ``blocks`` (the number of free blocks). ``lacking`` is the number of blocks that are
    missing to start the request, 0 with other limits.
    """

    what: str
    phrase: str
    lacking: int = 0


_LIMITS = {"batch": "max_num_seqs", "budget": "max_num_batched_tokens", "blocks": "available_blocks"}
"""The limit or option that must be raised if an obstacle never goes away, by ``Obstacle.what``."""


@dataclass(frozen=True)
class PredictedStep:
    """The observable state after a step. ``why`` is a phrase that describes the step.

    ``held`` has (number of the request, numbers of the blocks that it held in the step) for each scheduled request.
    ``free_queue`` has the numbers of the free blocks, in the order in which they are allocated. ``computed`` has the
    number of computed tokens of each running request. ``waits`` is (number of the request at the head of the queue,
    reason why it can't start), None if no request has to wait. ``fits_exactly`` are the requests that started and for
    which the free blocks were exactly enough.
    """

    row: StepRow
    why: str
    held: tuple[tuple[int, tuple[int, ...]], ...]
    free_queue: tuple[int, ...]
    computed: tuple[int, ...]
    waits: tuple[int, Obstacle] | None
    fits_exactly: tuple[int, ...]


class _Engine:
    """The state of the scheduler model between two steps, with the results of the last step."""

    def __init__(self, limits: SchedulingLimits, options: TokenBudgetSetup) -> None:
        self.context = limits.max_model_len or inf
        self.max_num_seqs = limits.max_num_seqs or inf
        self.options = options
        self.pool = BlockPool(limits.available_blocks or 0, options)
        self.step = 0
        self.budget = 0
        self.waiting: list[ModelRequest] = []
        self.running: list[ModelRequest] = []
        self.gone = False
        self._clear()
        self.head = "nothing waits"

    def _clear(self) -> None:
        self.scheduled: dict[ModelRequest, int] = {}
        self.preempted: list[ModelRequest] = []
        self.hits: list[tuple[int, int]] = []
        self.outputs: tuple[int, ...] = ()
        self.finished: tuple[int, ...] = ()
        self.held: list[tuple[int, tuple[int, ...]]] = []
        self.decoding: set[int] = set()
        self.waits: tuple[int, Obstacle] | None = None
        self.fits_exactly: list[int] = []

    # --- one step ---------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Run the next step."""
        self._clear()
        self.step += 1
        self.gone = False
        self.budget = self.options.max_num_batched_tokens
        self._schedule_running()
        if self.preempted:
            self.head = f"no request starts after the preemption of {_named(self.preempted)}"
        else:
            self._schedule_waiting()
        self._run()

    def _schedule_running(self) -> None:
        """Schedule the running requests in the order in which they joined."""
        place = 0
        while place < len(self.running) and self.budget > 0:
            request = self.running[place]
            wanted = min(self._within_threshold(request.length - request.computed), self.budget)
            wanted = min(wanted, int(min(self.context - 1 - request.computed, wanted)))
            if wanted and not self._make_room(request, wanted):
                return
            if wanted:
                self._schedule(request, wanted)
            place += 1

    def _make_room(self, request: ModelRequest, tokens: int) -> bool:
        """Preempt running requests, the last first, until ``request`` can get blocks for ``tokens`` more tokens.

        Return False if ``request`` itself was preempted.
        """
        while self._blocks_to_allocate(request, tokens) > len(self.pool.free):
            victim = self.running.pop()
            self.pool.release(victim.blocks)
            victim.blocks, victim.computed = [], 0
            self.waiting.insert(0, victim)
            self.preempted.append(victim)
            if victim is request:
                return False
        return True

    def _schedule_waiting(self) -> None:
        """Start waiting requests in the order of the queue, until one of them can't start."""
        while self.waiting:
            request = self.waiting[0]
            found = self.pool.found(request.token_ids()) if self.options.enable_prefix_caching else []
            obstacle = self._obstacle(request, found)
            if obstacle:
                self.head = f"{request.number} waits for {obstacle.phrase}"
                self.waits = request.number, obstacle
                return
            if self._needed(request, found) == len(self.pool.free):
                self.fits_exactly.append(request.number)
            self.waiting.pop(0)
            self.running.append(request)
            self.pool.share(found)
            request.blocks, request.computed = list(found), len(found) * self.pool.size
            if found:
                self.hits.append((request.number, request.computed))
            wanted = self._within_threshold(request.length - request.computed)
            self._schedule(request, min(wanted, self.budget), new=True)
        self.head = "nothing waits"

    def _needed(self, request: ModelRequest, found: Sequence[Block]) -> int:
        """Return how many free blocks a request needs for all tokens that it has so far.

        ``found`` are the blocks that the request found in the prefix cache. Those that other requests hold are not
        counted, because they are not free.
        """
        return ceil_div(request.length, self.pool.size) - sum(block.holders > 0 for block in found)

    def _obstacle(self, request: ModelRequest, found: Sequence[Block]) -> Obstacle | None:
        """Return why a request can't start now, None if it can."""
        if len(self.running) >= self.max_num_seqs:
            return Obstacle("batch", f"a place in the batch: {len(self.running)} of {self.max_num_seqs} run")
        if self.budget == 0:
            return Obstacle("budget", f"budget: all {self.options.max_num_batched_tokens} tokens are used")
        wanted = self._within_threshold(request.length - len(found) * self.pool.size)
        if not self.options.enable_chunked_prefill and wanted > self.budget:
            left = f"{self.budget} left of {self.options.max_num_batched_tokens}"
            return Obstacle("budget", f"budget: {wanted} tokens in one step, {left}")
        needed, free = self._needed(request, found), len(self.pool.free)
        if needed > free:
            phrase = f"blocks: {needed} needed for all its {request.length} tokens, {free} free"
            return Obstacle("blocks", phrase, needed - free)
        return None

    def _within_threshold(self, tokens: int) -> int:
        """Return ``tokens``, but at most ``long_prefill_token_threshold``.

        There are two cases without a limit: the threshold is 0, or the rules are those of vLLM 0.32 and there is only
        one request, waiting or running.
        """
        threshold = self.options.long_prefill_token_threshold
        alone = len(self.running) + len(self.waiting) <= 1
        if not threshold or (alone and self.options.rules == "0.32"):
            return tokens
        return min(tokens, threshold)

    def _blocks_to_allocate(self, request: ModelRequest, tokens: int) -> int:
        return ceil_div(request.computed + tokens, self.pool.size) - len(request.blocks)

    def _schedule(self, request: ModelRequest, tokens: int, *, new: bool = False) -> None:
        """Schedule tokens of a request for this step.

        Blocks that these tokens fill are added to the prefix cache immediately, before the tokens are computed.
        """
        request.blocks += self.pool.allocate(max(0, self._blocks_to_allocate(request, tokens)))
        if tokens == 1 and request.computed + 1 == request.length and not new:
            self.decoding.add(request.number)
        request.computed += tokens
        self.pool.register(request.blocks, request.token_ids(request.computed))
        self.scheduled[request] = tokens
        self.budget -= tokens

    def _run(self) -> None:
        """Give a token to each request whose tokens are all computed. Requests that got their last token end."""
        self.held = [(r.number, tuple(block.number for block in r.blocks)) for r in self.scheduled]
        caught_up = [request for request in self.scheduled if request.computed == request.length]
        for request in caught_up:
            request.outputs += 1
        ended = [request for request in caught_up if self._is_done(request)]
        self.outputs = tuple(request.number for request in caught_up)
        self.finished = tuple(request.number for request in ended)
        for request in ended:
            self.leave(request)

    def _is_done(self, request: ModelRequest) -> bool:
        """Return whether the request has generated all its tokens, or fills the context."""
        return request.length >= self.context or request.outputs == len(request.plan.generated)

    def leave(self, request: ModelRequest) -> None:
        """Remove a request that has ended or was aborted, and free its blocks."""
        for place in (self.waiting, self.running):
            if request in place:
                place.remove(request)
                self.gone = True
        self.pool.release(request.blocks)
        request.blocks = []

    # --- observation -----------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Return whether another step must run.

        A step must run if a request runs or waits, or if one has ended or was aborted since the last step began.
        """
        return bool(self.waiting or self.running or self.gone)

    def check_for_a_dead_end(self) -> None:
        """Raise ImpossibleWorkload if no further step could change the state of the scheduler model."""
        if self.scheduled or self.preempted or not (self.waiting or self.running):
            return
        if self.running:
            number = self.running[0].number
            reason = f"request {number} can't compute another token, because its prompt fills the context"
            raise ImpossibleWorkload(reason, "max_model_len")
        assert self.waits is not None
        raise ImpossibleWorkload(f"request {self.head}", _LIMITS[self.waits[1].what])

    @property
    def kind(self) -> str:
        kinds = {"decode" if request.number in self.decoding else "prefill" for request in self.scheduled}
        return "start" if self.step == 0 else "mixed" if len(kinds) == 2 else next(iter(kinds), "idle")

    @property
    def why(self) -> str:
        """Return a phrase about what the step did and, if the head of the queue waits, why."""
        if self.step == 0:
            return "the state before any step"
        budget = self.options.max_num_batched_tokens
        given = " and ".join(f"{tokens} of {request.number}" for request, tokens in self.scheduled.items())
        done = f"{given} (a budget of {budget})" if given else "nothing to run"
        lost = f", {_named(self.preempted)} preempted for blocks" if self.preempted else ""
        return f"{done}{lost}, {self.head}"

    def predicted_step(self) -> PredictedStep:
        held = {block.number for request in self.running for block in request.blocks}
        row = StepRow(
            self.step,
            None,
            _numbers(self.waiting),
            _numbers(self.running),
            self.outputs,
            self.finished,
            None,
            len(held),
            None,
            tuple(self.hits),
            self.kind,
            (),
            tuple((request.number, tokens) for request, tokens in self.scheduled.items()),
            _numbers(self.preempted),
        )
        queue = tuple(block.number for block in self.pool.free)
        computed = tuple(request.computed for request in self.running)
        return PredictedStep(row, self.why, tuple(self.held), queue, computed, self.waits, tuple(self.fits_exactly))


def predict(
    limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[RequestWithTokens]
) -> tuple[StepRow, ...]:
    """Return the step table of a workload, up to the step after which there is no more work.

    No limit may be None except ``max_batch_tkv_limit``, which this scheduler does not have. The ``kind`` of the rows is
    "", as in expected tables. Raises ImpossibleWorkload if a request can never run or continue.
    """
    return tuple(predicted.row._replace(kind="") for predicted in predicted_steps(limits, options, requests))


def explain(
    limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[RequestWithTokens], step: int
) -> str:
    """Return a phrase about what step ``step`` does and, if the head of the queue waits, why."""
    for predicted in predicted_steps(limits, options, requests):
        if predicted.row.step == step:
            return f"step {step}: {predicted.why}"
    return f"step {step}: the workload is done"


def predicted_steps(
    limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[RequestWithTokens]
) -> Iterator[PredictedStep]:
    """Yield the state before the first step and after each step.

    In the state after step n, the requests with ``join_step`` n are in the queue, and those with ``abort_step`` n are
    removed. Raises ImpossibleWorkload if a request can never run or continue.
    """
    model_requests = [ModelRequest(number, plan) for number, plan in enumerate(requests)]
    engine = _Engine(limits, options)
    last = max(max(plan.join_step, plan.abort_step or 0) for plan in requests)

    def join_and_abort() -> None:
        engine.waiting += [request for request in model_requests if request.plan.join_step == engine.step]
        for request in model_requests:
            if request.plan.abort_step == engine.step:
                engine.leave(request)

    join_and_abort()
    yield engine.predicted_step()
    while engine.has_work or engine.step < last:
        engine.advance()
        if engine.step >= last:
            engine.check_for_a_dead_end()
        join_and_abort()
        yield engine.predicted_step()


def _numbers(requests: Sequence[ModelRequest]) -> tuple[int, ...]:
    return tuple(request.number for request in requests)


def _named(requests: Sequence[ModelRequest]) -> str:
    return " ".join(map(str, _numbers(requests)))
