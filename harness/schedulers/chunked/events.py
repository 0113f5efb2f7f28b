"""Find the events of the chunked scheduler that its step table does not show, with the model of the scheduler.

These are, for example, the reasons why requests wait, and prefix cache hits and evictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.chunked.model import Engine, Page, Reader, moments
from harness.schedulers.events import Event
from harness.schedulers.texts import Text, planned_texts
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
    """Yield the events that follow from the rules. No limit may be None. Raises ValueError if the run is not valid."""
    texts = planned_texts(specs, timings, run)
    cache = _Cache([plan.prompt for plan in texts])
    for engine in moments(limits, options, texts):
        yield from _admission(engine)
        yield from _limit_met(engine)
        yield from cache.see(engine)


def _admission(engine: Engine) -> Iterator[Event]:
    """Yield why a prompt can't start or continue in the next step or, if it can, whether it only just fits a limit."""
    step = engine.step + 1
    reader = next((r for r in engine.running if r.prefilling), None)
    if reader is not None and engine.waiting:
        yield Event(step, "wait_for_prefill", engine.waiting[0].number)
    if reader is None and not engine.waiting:
        return
    reader = reader or engine.waiting[0]
    new = reader.done == 0
    reason = engine.obstacle(reader) or (engine.lacking(reader) if new else None)
    if reason is not None:
        found = [name for start, name in _OBSTACLES.items() if reason.startswith(start)]
        yield Event(step, found[0] if found else "wait_for_paused", reader.number)  # type: ignore[arg-type]
    if new and engine.obstacle(reader) is None:
        spare = engine.spare(reader)
        if spare == 0:
            yield Event(step, "fits_blocks_exactly", reader.number)
        elif spare == -1:
            yield Event(step, "blocks_short_by_one", reader.number)


def _limit_met(engine: Engine) -> Iterator[Event]:
    """Yield whether the last decode was exactly at the batch x tkv limit, or a pause exactly one above it."""
    limit, got = engine.limits.max_batch_tkv_limit or 0, len(engine.outputs)
    if engine.kind == "decode" and got * engine.tkv == limit:
        yield Event(engine.step, "fits_batch_tkv_exactly")
    if engine.kind == "decode" and limit + 1 in engine.exceeded:
        yield Event(engine.step, "batch_tkv_over_by_one")


@dataclass
class _Cache:
    """What was in the prefix cache so far.

    ``known`` has the texts of all pages that were ever in the cache, ``pages`` those that are in it, and ``found``
    those that a request has found.
    """

    prompts: Sequence[Text]
    started: list[int] = field(default_factory=list)
    known: set[Text] = field(default_factory=set)
    pages: list[Page] = field(default_factory=list)
    found: set[Page] = field(default_factory=set)

    def see(self, engine: Engine) -> Iterator[Event]:
        """Yield the prefix cache hits of the last step, and what it has evicted."""
        if engine.started is not None:
            yield from self._hits(engine, engine.started)
            self.started.append(engine.started.number)
        for page in set(self.pages) - set(engine.library):
            yield Event(engine.step, "found_block_taken" if page in self.found else "cached_block_taken")
        self.pages = list(engine.library)
        self.known.update(page.text for page in self.pages if page.text is not None)
        self.found.update(page for page, _ in engine.hits)

    def _hits(self, engine: Engine, reader: Reader) -> Iterator[Event]:
        step, number = engine.step, reader.number
        if engine.hits:
            yield Event(step, "hit" if reader.usable else "hit_unused", number)
        for page, holders in engine.hits:
            text = page.text or ()
            yield Event(step, "hit_on_held_blocks" if holders else "hit_on_free_blocks", number)
            if not any(self.prompts[other][: len(text)] == text for other in self.started):
                yield Event(step, "hit_on_generated_blocks", number)
            if sum(other.text == text for other in engine.library) > 1:
                yield Event(step, "hit_with_copies", number)
        end = reader.hit + BLOCK_SIZE
        if end < reader.length and reader.plan.prompt[:end] in self.known:
            yield Event(step, "prefix_lost", number)
