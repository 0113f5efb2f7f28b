"""A model of the chunked scheduler, which predicts every step of a workload without using code of the engine.

It is written only from docs/scheduling-rules-chunked.md, and is meant to be easy to read, not fast. It has no block
ids: a block is a ``Page`` with the number of its holders and, when it is full, the text up to its end. The list of free
pages is in the order in which they are used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.texts import PlannedText, Text
from harness.types import BLOCK_SIZE, ChunkingSetup, SchedulingLimits, StepRow, blocks_for, ceil_div


@dataclass(eq=False)
class Page:
    """A block of the KV cache. ``holders`` is the number of requests that hold it.

    ``text`` is its key in the prefix cache, all tokens up to its end. It is None if the page is not in the cache.
    """

    holders: int = 0
    text: Text | None = None


@dataclass(eq=False)
class Reader:
    """A request that has joined and not ended.

    ``done`` is the number of its tokens that were scheduled, ``hit`` the number of pages that were found in the prefix
    cache, and ``outputs`` the number of its generated tokens.
    """

    number: int
    plan: PlannedText
    size: int
    pages: list[Page] = field(default_factory=list)
    done: int = 0
    hit: int = 0
    outputs: int = 0
    skipped_turns: int = 0

    @property
    def length(self) -> int:
        return len(self.plan.prompt)

    @property
    def padding(self) -> int:
        return ceil_div(self.length, self.size) * self.size - _whole(self.length)

    @property
    def reserved(self) -> int:
        return blocks_for(self.length + self.plan.max_tokens) - len(self.pages)

    @property
    def prefilling(self) -> bool:
        return self.outputs == 0

    @property
    def usable(self) -> int:
        """Return how many of the hit blocks are not computed again by a chunk."""
        chunks = ceil_div(self.length, self.size)
        whole = min((self.padding + self.hit) // self.size, chunks - 1)
        return max(0, whole * self.size - self.padding) // BLOCK_SIZE

    def text(self, end: int) -> Text:
        """Return the first ``end`` tokens of the request, from its prompt and its generated tokens."""
        return (self.plan.prompt + self.plan.generated)[:end]


@dataclass
class Engine:
    """The state of the model between two steps, with the results of the last step.

    ``library`` are the pages in the prefix cache. ``exceeded`` has the values of batch size x tkv that were above the
    limit. ``started`` is the request that had its first chunk, and ``hits`` the pages that it found in the prefix
    cache, each with the number of its other holders. ``why`` describes the step.
    """

    limits: SchedulingLimits
    options: ChunkingSetup
    free: list[Page]
    step: int = 0
    tkv: int = 0
    waiting: list[Reader] = field(default_factory=list)
    running: list[Reader] = field(default_factory=list)
    paused: list[Reader] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    library: list[Page] = field(default_factory=list)
    chunk_before: bool = False
    withdrawn: bool = False
    kind: str = "start"
    exceeded: list[int] = field(default_factory=list)
    started: Reader | None = None
    hits: tuple[tuple[Page, int], ...] = ()
    why: str = "the state before any step"

    # --- admission ----------------------------------------------------------------------------------------------

    @property
    def decoding(self) -> list[Reader]:
        return [reader for reader in self.running if not reader.prefilling]

    def found(self, reader: Reader) -> list[Page]:
        """Return the pages of the longest prefix of the request's prompt that is in the prefix cache."""
        if not self.options.enable_prefix_caching:
            return []
        most = (reader.length - 1) // BLOCK_SIZE
        matches = (self.findable(reader.plan.prompt[: (i + 1) * BLOCK_SIZE]) for i in range(most))
        return [page for page in takewhile(lambda page: page is not None, matches) if page is not None]

    def findable(self, text: Text) -> Page | None:
        """Return the page with this text in the prefix cache, the oldest if there are several, or None."""
        return next((page for page in self.library if page.text == text), None)

    def lacking(self, reader: Reader) -> str | None:
        """Return a phrase that says how many blocks the head of the queue lacks, None if there are enough."""
        if self.spare(reader) >= 0:
            return None
        return f"blocks: {self.needed(reader)} needed, {len(self.free)} free, {self.promised} of them reserved"

    def needed(self, reader: Reader) -> int:
        """Return how many free blocks the request needs to run to ``max_tokens``.

        Blocks of its prefix cache hit that other requests hold are not needed.
        """
        held_now = sum(page.holders > 0 for page in self.found(reader))
        return blocks_for(reader.length + reader.plan.max_tokens) - held_now

    @property
    def promised(self) -> int:
        return sum(other.reserved for other in (*self.running, *self.paused))

    def spare(self, reader: Reader) -> int:
        """Return how many free, unreserved blocks would be left if the request started. Negative: there are too few."""
        return len(self.free) - self.promised - self.needed(reader)

    def obstacle(self, reader: Reader) -> str | None:
        """Return a phrase that says why the next chunk of a request can't run now, None if it can."""
        new = reader.done == 0
        if new and not self.running:
            return None
        if self.paused:
            return f"{_named(self.paused)} to be resumed"
        if self.options.interleave and self.chunk_before and self.decoding:
            return f"a decode of {_named(self.decoding)}"
        if new and any(other.prefilling for other in self.running):
            return "the current prefill to end"
        most = self.limits.max_num_seqs or 0
        if new and len(self.running) >= most:
            return f"batch: {len(self.running)} run of {most}"
        applies = self.options.interleave or new
        if (
            applies
            and reader.length - max(reader.done, self.hit_of(reader)) <= reader.size
            and len(self.decoding) >= most
        ):
            return f"batch: {len(self.decoding)} decode of {most}"
        return None

    def hit_of(self, reader: Reader) -> int:
        return len(self.found(reader)) * BLOCK_SIZE if reader.done == 0 else reader.done

    # --- one step -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Run the next step."""
        self.step += 1
        self.withdrawn = False
        self.outputs = self.finished = ()
        self.exceeded, self.started, self.hits = [], None, ()
        reader = next((reader for reader in self.running if reader.prefilling), None)
        if reader is None and self.waiting:
            reader = self.waiting[0]
        reason = None if reader is None else self.obstacle(reader)
        if reader is not None and reason is None and reader.done == 0:
            reason = self.lacking(reader)
        if reader is not None and reason is None:
            self.kind, self.why = "prefill", f"chunk of {reader.number}"
            self.chunk(reader)
        else:
            head = "nothing to prefill" if reader is None else f"{reader.number} waits for {reason}"
            self.decode(head)
        self.chunk_before = reader is not None and reason is None
        for ended in [r for r in self.running if r.number in self.finished]:
            self.leave(ended)

    def chunk(self, reader: Reader) -> None:
        if reader.done == 0:
            self.waiting.remove(reader)
            found = self.found(reader)
            self.started, self.hits = reader, tuple((page, page.holders) for page in found)
            self.share(reader, found)
        else:
            self.running.remove(reader)
        self.running.insert(0, reader)
        first_room = reader.size - reader.padding
        room = reader.size if reader.done >= first_room else first_room
        end_of_chunk = ((reader.padding + reader.done) // reader.size + 1) * reader.size - reader.padding
        self.extend(reader, min(reader.length, reader.done + room), min(end_of_chunk, reader.length))
        self.tkv = reader.length
        if reader.done == reader.length:
            self.give_token([reader])

    def share(self, reader: Reader, pages: list[Page]) -> None:
        for page in pages:
            page.holders += 1
            if page in self.free:
                self.free.remove(page)
        reader.pages = list(pages)
        reader.done = reader.hit = len(pages) * BLOCK_SIZE

    def extend(self, reader: Reader, done: int, written: int) -> None:
        """Give the request pages for its first ``done`` tokens.

        Pages that the first ``written`` tokens fill enter the prefix cache.
        """
        while len(reader.pages) < blocks_for(done):
            page = self.free.pop(0)
            if page.text is not None:
                self.library.remove(page)
            page.holders, page.text = 1, None
            reader.pages.append(page)
        reader.done = done
        if self.options.enable_prefix_caching:
            for place in range(written // BLOCK_SIZE):
                page = reader.pages[place]
                if page.text is None:
                    page.text = reader.text((place + 1) * BLOCK_SIZE)
                    self.library.append(page)

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
        for reader in batch:
            self.extend(reader, reader.done + 1, reader.done + 1)
        self.give_token(batch)

    def choose(self) -> None:
        """Choose which requests decode in this step, and which are paused."""
        sign = -1 if self.options.long_output_priority else 1
        turn = [*self.paused, *self.decoding]
        turn.sort(key=lambda reader: (-reader.skipped_turns, sign * (reader.done - reader.length)))
        batch: list[Reader] = []
        for reader in turn:
            trial = [*batch, reader]
            if len(trial) * _tkv(trial) <= (self.limits.max_batch_tkv_limit or 0):
                batch = trial
            else:
                self.exceeded.append(len(trial) * _tkv(trial))
        prefilling = [reader for reader in self.running if reader.prefilling]
        staying = [reader for reader in self.decoding if reader in batch]
        self.running = [*staying, *(reader for reader in batch if reader in self.paused), *prefilling]
        self.paused = [reader for reader in turn if reader not in batch]
        for reader in turn:
            reader.skipped_turns = 0 if reader in batch else reader.skipped_turns + 1

    def check_for_a_dead_end(self) -> None:
        if self.paused:
            reader = self.paused[0]
            limit = self.limits.max_batch_tkv_limit
            raise ImpossibleWorkload(
                f"request {reader.number} alone exceeds max_batch_tkv_limit {limit} at tkv {reader.done + 1}"
            )
        if self.waiting and not self.running:
            raise ImpossibleWorkload(f"request {self.waiting[0].number} waits for {self.lacking(self.waiting[0])}")

    def give_token(self, batch: Sequence[Reader]) -> None:
        for reader in batch:
            reader.outputs += 1
        self.outputs = tuple(reader.number for reader in batch)
        self.finished = tuple(reader.number for reader in batch if self.is_done(reader))

    def is_done(self, reader: Reader) -> bool:
        """Return whether the request has generated all its tokens, or fills the context."""
        fills_context = reader.length + reader.outputs >= (self.limits.max_model_len or inf)
        return fills_context or reader.outputs == len(reader.plan.generated)

    def leave(self, reader: Reader) -> None:
        """Remove the request, and free its pages that no other request holds, the last page first.

        Freed pages that are not in the prefix cache are used again before all other free pages, those in the prefix
        cache after all others. Without prefix caching, pages are used again in the order in which they were freed.
        """
        self.withdrawn = self.withdrawn or reader in self.waiting
        for place in (self.waiting, self.running, self.paused):
            if reader in place:
                place.remove(reader)
        for page in reader.pages:
            page.holders -= 1
        freed = [page for page in reversed(reader.pages) if not page.holders]
        first = [page for page in freed if page.text is None and self.options.enable_prefix_caching]
        self.free = [*first, *self.free, *(page for page in freed if page not in first)]
        reader.pages = []

    # --- observation -------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self.paused or self.tkv or self.withdrawn)

    def row(self) -> StepRow:
        alive = [*self.running, *self.paused]
        pages = {id(page) for reader in alive for page in reader.pages}
        return StepRow(
            self.step,
            self.tkv,
            _numbers(self.waiting),
            _numbers(self.running),
            self.outputs,
            self.finished,
            sum(reader.reserved for reader in alive),
            len(pages),
            _numbers(self.paused),
            tuple(sorted((reader.number, reader.usable) for reader in alive if reader.usable)),
        )


def predict(limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[PlannedText]) -> tuple[StepRow, ...]:
    """Return the step table of a workload, up to the step after which there is no more work. No limit may be None.

    Raises ImpossibleWorkload.
    """
    return tuple(engine.row() for engine in moments(limits, options, requests))


def explain(limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[PlannedText], step: int) -> str:
    """Return a phrase about what step ``step`` does and, if a request waits for its prefill, why."""
    for engine in moments(limits, options, requests):
        if engine.step == step:
            return f"step {step}: {engine.why}"
    return f"step {step}: the workload is done"


def moments(limits: SchedulingLimits, options: ChunkingSetup, requests: Sequence[PlannedText]) -> Iterator[Engine]:
    """Yield the state after each step, when requests have joined and were aborted. It is always the same object."""
    readers = [Reader(number, plan, options.chunk_size) for number, plan in enumerate(requests)]
    engine = Engine(limits, options, [Page() for _ in range(limits.available_blocks or 0)])
    last = max(max(plan.join_step, plan.abort_step or 0) for plan in requests)

    def happen() -> None:
        engine.waiting += [reader for reader in readers if reader.plan.join_step == engine.step]
        for reader in readers:
            if reader.plan.abort_step == engine.step:
                engine.leave(reader)

    happen()
    yield engine
    while engine.has_work or engine.step < last:
        engine.advance()
        happen()
        yield engine


def _tkv(batch: Sequence[Reader]) -> int:
    ahead = [reader.done + 1 for reader in batch]
    most = max(map(blocks_for, ahead))
    return max((most - blocks_for(tokens)) * BLOCK_SIZE + tokens for tokens in ahead)


def _whole(tokens: int) -> int:
    return blocks_for(tokens) * BLOCK_SIZE


def _numbers(readers: Sequence[Reader]) -> tuple[int, ...]:
    return tuple(reader.number for reader in readers)


def _named(readers: Sequence[Reader]) -> str:
    return " ".join(map(str, _numbers(readers)))
