"""Find the events of a run with the chunked scheduler that the step table does not show, using the scheduler model.

Such events are, for example, the reasons why requests wait, and hits in and evictions from the prefix cache.
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
    """Yield the events of the next step that concern the start of a chunk.

    They say why no chunk can run, or that the free blocks are exactly enough, or one too few, for a new request.
    """
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
    """Yield an event if the last step was a decode whose batch size x tkv was exactly ``max_batch_tkv_limit``.

    Yield another event if a request was paused because batch size x tkv would otherwise have been the limit plus 1.
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
    now, and ``found`` the blocks that at least one request has found in the cache. ``started`` are the numbers of the
    requests whose first chunk has run. ``prompts`` are the prompts of all requests.
    """

    prompts: Sequence[TokenIds]
    started: list[int] = field(default_factory=list)
    known: set[TokenIds] = field(default_factory=set)
    blocks: list[Block] = field(default_factory=list)
    found: set[Block] = field(default_factory=set)

    def see(self, engine: Engine) -> Iterator[Event]:
        """Yield events about the hits in the prefix cache, and the evictions from it, in the engine's last step."""
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
