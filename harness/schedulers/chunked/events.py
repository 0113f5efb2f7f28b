"""Use the scheduler model of the chunked scheduler to find the events that its step table does not show.

These are, for example, the reasons why requests wait, and prefix cache hits and evictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.chunked.model import Block, Engine, ModelRequest, predicted_steps
from harness.schedulers.events import Event
from harness.schedulers.request_tokens import TokenIds, requests_with_tokens
from harness.suites.schema import Request
from harness.types import BLOCK_SIZE, ChunkingSetup, RequestSpec, Run, SchedulingLimits

_OBSTACLES = {
    "batch:": "wait_for_batch",
    "a decode of": "wait_for_turn",
    "blocks:": "wait_for_blocks",
}


def rule_events(
    limits: SchedulingLimits,
    options: ChunkingSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
) -> Iterator[Event]:
    """Yield the events of a run that only the scheduler model can find. No limit may be None.

    Raises ValueError if the scheduler model can't predict the run.
    """
    requests = requests_with_tokens(specs, timings, run)
    cache = _Cache([request.prompt for request in requests])
    for engine in predicted_steps(limits, options, requests):
        yield from _admission(engine)
        yield from _limit_met(engine)
        yield from cache.see(engine)


def _admission(engine: Engine) -> Iterator[Event]:
    """Yield events about the next step: why no chunk can run, or that a new request fits the free blocks exactly."""
    step = engine.step + 1
    request = next((r for r in engine.running if r.prefilling), None)
    if request is not None and engine.waiting:
        yield Event(step, "wait_for_prefill", engine.waiting[0].number)
    if request is None and not engine.waiting:
        return
    request = request or engine.waiting[0]
    new = request.computed == 0
    reason = engine.obstacle(request) or (engine.lacking(request) if new else None)
    if reason is not None:
        found = [name for start, name in _OBSTACLES.items() if reason.startswith(start)]
        yield Event(step, found[0] if found else "wait_for_paused", request.number)  # type: ignore[arg-type]
    if new and engine.obstacle(request) is None:
        left = engine.blocks_left(request)
        if left == 0:
            yield Event(step, "fits_blocks_exactly", request.number)
        elif left == -1:
            yield Event(step, "blocks_short_by_one", request.number)


def _limit_met(engine: Engine) -> Iterator[Event]:
    """Yield an event if batch size x tkv of the last decode was exactly the limit.

    Yield another event if it would have exceeded the limit by 1 with a request that was paused.
    """
    limit, got = engine.limits.max_batch_tkv_limit or 0, len(engine.outputs)
    if engine.kind == "decode" and got * engine.tkv == limit:
        yield Event(engine.step, "fits_batch_tkv_exactly")
    if engine.kind == "decode" and limit + 1 in engine.exceeded:
        yield Event(engine.step, "batch_tkv_over_by_one")


@dataclass
class _Cache:
    """The content of the prefix cache, updated step by step.

    ``known`` has the keys of all blocks that were ever in the cache. ``blocks`` are the blocks that are in the cache
    now, and ``found`` the blocks that any request has found in the cache. ``started`` are the requests whose first
    chunk ran.
    """

    prompts: Sequence[TokenIds]
    started: list[int] = field(default_factory=list)
    known: set[TokenIds] = field(default_factory=set)
    blocks: list[Block] = field(default_factory=list)
    found: set[Block] = field(default_factory=set)

    def see(self, engine: Engine) -> Iterator[Event]:
        """Yield the prefix cache hits of the last step, and the evictions from the cache in this step."""
        if engine.started is not None:
            yield from self._hits(engine, engine.started)
            self.started.append(engine.started.number)
        for block in set(self.blocks) - set(engine.cached):
            yield Event(engine.step, "found_block_taken" if block in self.found else "cached_block_taken")
        self.blocks = list(engine.cached)
        self.known.update(block.key for block in self.blocks if block.key is not None)
        self.found.update(block for block, _ in engine.hits)

    def _hits(self, engine: Engine, request: ModelRequest) -> Iterator[Event]:
        step, number = engine.step, request.number
        if engine.hits:
            yield Event(step, "hit" if request.usable else "hit_unused", number)
        for block, holders in engine.hits:
            key = block.key or ()
            yield Event(step, "hit_on_held_blocks" if holders else "hit_on_free_blocks", number)
            if not any(self.prompts[other][: len(key)] == key for other in self.started):
                yield Event(step, "hit_on_generated_blocks", number)
            if sum(other.key == key for other in engine.cached) > 1:
                yield Event(step, "hit_with_copies", number)
        end = request.hit + BLOCK_SIZE
        if end < request.length and request.plan.prompt[:end] in self.known:
            yield Event(step, "prefix_lost", number)
