"""A model of the token-budget scheduler, which predicts every step of a workload without using code of the engine.

It is written only from docs/scheduling-rules-token-budget.md, and is meant to be easy to read, not fast. A request is a
text that grows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.texts import PlannedText
from harness.schedulers.token_budget.pages import Page, Pages, Text
from harness.types import BLOCK_SIZE, SchedulingLimits, StepRow, TokenBudgetSetup, ceil_div


@dataclass(eq=False)
class Writer:
    """A request that has joined and not ended.

    ``computed`` is the number of its tokens that are in its pages at the end of the step, and ``outputs`` the number of
    its generated tokens.
    """

    number: int
    plan: PlannedText
    pages: list[Page] = field(default_factory=list)
    computed: int = 0
    outputs: int = 0

    @property
    def length(self) -> int:
        return len(self.plan.prompt) + self.outputs

    def text(self, end: int | None = None) -> Text:
        """Return the first ``end`` tokens of the request, or all tokens that it has so far."""
        return (self.plan.prompt + self.plan.generated[: self.outputs])[:end]


class Obstacle(NamedTuple):
    """Why the head of the queue can't start. ``what`` is batch, budget or blocks, and ``phrase`` says why.

    ``lacking`` is the number of blocks that are missing.
    """

    what: str
    phrase: str
    lacking: int = 0


@dataclass(frozen=True)
class Moment:
    """The observable state after a step. ``why`` is a phrase that describes the step.

    ``pages`` has the ids of the pages that each request had in the step. ``waits`` is the head of the queue with the
    reason why it can't start. ``exact`` are the requests that started with the last free blocks.
    """

    row: StepRow
    why: str
    pages: tuple[tuple[int, tuple[int, ...]], ...]
    queue: tuple[int, ...]
    computed: tuple[int, ...]
    waits: tuple[int, Obstacle] | None
    exact: tuple[int, ...]


class _Engine:
    """The state of the model between two steps, with the results of the last step."""

    def __init__(self, limits: SchedulingLimits, options: TokenBudgetSetup, size: int) -> None:
        self.context = limits.max_model_len or inf
        self.seats = limits.max_num_seqs or inf
        self.options = options
        self.pages = Pages(limits.available_blocks or 0, options, size)
        self.step = 0
        self.budget = 0
        self.waiting: list[Writer] = []
        self.running: list[Writer] = []
        self.gone = False
        self._clear()
        self.head = "nothing waits"

    def _clear(self) -> None:
        self.scheduled: dict[Writer, int] = {}
        self.preempted: list[Writer] = []
        self.hits: list[tuple[int, int]] = []
        self.outputs: tuple[int, ...] = ()
        self.finished: tuple[int, ...] = ()
        self.held: list[tuple[int, tuple[int, ...]]] = []
        self.decoding: set[int] = set()
        self.waits: tuple[int, Obstacle] | None = None
        self.exact: list[int] = []

    # --- one step ---------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Run the next step."""
        self._clear()
        self.step += 1
        self.gone = False
        self.budget = self.options.max_num_batched_tokens
        self._go_on()
        if self.preempted:
            self.head = f"nothing starts in the step of a preemption of {_named(self.preempted)}"
        else:
            self._start()
        self._run()

    def _go_on(self) -> None:
        """Schedule the running requests in the order in which they joined."""
        place = 0
        while place < len(self.running) and self.budget > 0:
            writer = self.running[place]
            wanted = min(self._capped(writer.length - writer.computed), self.budget)
            wanted = min(wanted, int(min(self.context - 1 - writer.computed, wanted)))
            if wanted and not self._make_room(writer, wanted):
                return
            if wanted:
                self._schedule(writer, wanted)
            place += 1

    def _make_room(self, writer: Writer, tokens: int) -> bool:
        """Preempt running requests, the last first, until ``writer`` can get pages for ``tokens`` more tokens.

        Return False if ``writer`` itself was preempted.
        """
        while self._lacking(writer, tokens) > len(self.pages.free):
            victim = self.running.pop()
            self.pages.give_back(victim.pages)
            victim.pages, victim.computed = [], 0
            self.waiting.insert(0, victim)
            self.preempted.append(victim)
            if victim is writer:
                return False
        return True

    def _start(self) -> None:
        """Start waiting requests, from the head of the queue on, until one can't start."""
        while self.waiting:
            writer = self.waiting[0]
            found = self.pages.found(writer.text()) if self.options.enable_prefix_caching else []
            obstacle = self._obstacle(writer, found)
            if obstacle:
                self.head = f"{writer.number} waits for {obstacle.phrase}"
                self.waits = writer.number, obstacle
                return
            if self._needed(writer, found) == len(self.pages.free):
                self.exact.append(writer.number)
            self.waiting.pop(0)
            self.running.append(writer)
            self.pages.share(found)
            writer.pages, writer.computed = list(found), len(found) * self.pages.size
            if found:
                self.hits.append((writer.number, writer.computed))
            self._schedule(writer, min(self._capped(writer.length - writer.computed), self.budget), new=True)
        self.head = "nothing waits"

    def _needed(self, writer: Writer, found: Sequence[Page]) -> int:
        """Return how many free blocks all tokens of a request need.

        Blocks that were found in the prefix cache count only if no other request holds them.
        """
        return ceil_div(writer.length, self.pages.size) - sum(page.holders > 0 for page in found)

    def _obstacle(self, writer: Writer, found: Sequence[Page]) -> Obstacle | None:
        """Return why a request can't start now, None if it can."""
        if len(self.running) >= self.seats:
            return Obstacle("batch", f"a place: {len(self.running)} run of {self.seats}")
        if self.budget == 0:
            return Obstacle("budget", f"budget: all {self.options.max_num_batched_tokens} tokens are used")
        wanted = self._capped(writer.length - len(found) * self.pages.size)
        if not self.options.enable_chunked_prefill and wanted > self.budget:
            left = f"{self.budget} left of {self.options.max_num_batched_tokens}"
            return Obstacle("budget", f"budget: {wanted} tokens in one step, {left}")
        needed, free = self._needed(writer, found), len(self.pages.free)
        if needed > free:
            phrase = f"blocks: {needed} needed for all its {writer.length} tokens, {free} free"
            return Obstacle("blocks", phrase, needed - free)
        return None

    def _capped(self, tokens: int) -> int:
        """Return ``tokens``, but at most ``long_prefill_token_threshold``."""
        threshold = self.options.long_prefill_token_threshold
        alone = len(self.running) + len(self.waiting) <= 1
        if not threshold or (alone and self.options.rules == "0.32"):
            return tokens
        return min(tokens, threshold)

    def _lacking(self, writer: Writer, tokens: int) -> int:
        return ceil_div(writer.computed + tokens, self.pages.size) - len(writer.pages)

    def _schedule(self, writer: Writer, tokens: int, *, new: bool = False) -> None:
        """Schedule tokens of a request for this step.

        Pages that these tokens fill enter the prefix cache immediately, before they are computed.
        """
        writer.pages += self.pages.take(max(0, self._lacking(writer, tokens)))
        if tokens == 1 and writer.computed + 1 == writer.length and not new:
            self.decoding.add(writer.number)
        writer.computed += tokens
        self.pages.remember(writer.pages, writer.text(writer.computed))
        self.scheduled[writer] = tokens
        self.budget -= tokens

    def _run(self) -> None:
        """Give a token to each request whose tokens are all computed, and end the request if it was the last one."""
        self.held = [(w.number, tuple(page.number for page in w.pages)) for w in self.scheduled]
        caught_up = [writer for writer in self.scheduled if writer.computed == writer.length]
        for writer in caught_up:
            writer.outputs += 1
        ended = [writer for writer in caught_up if self._is_done(writer)]
        self.outputs = tuple(writer.number for writer in caught_up)
        self.finished = tuple(writer.number for writer in ended)
        for writer in ended:
            self.leave(writer)

    def _is_done(self, writer: Writer) -> bool:
        """Return whether the request has generated all its tokens, or fills the context."""
        return writer.length >= self.context or writer.outputs == len(writer.plan.generated)

    def leave(self, writer: Writer) -> None:
        """Remove a request that has ended or was aborted, and free its pages."""
        for place in (self.waiting, self.running):
            if writer in place:
                place.remove(writer)
                self.gone = True
        self.pages.give_back(writer.pages)
        writer.pages = []

    # --- observation -----------------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Return whether a request runs or waits, or has ended or was aborted since the last step began."""
        return bool(self.waiting or self.running or self.gone)

    @property
    def stuck(self) -> str | None:
        """Return why no more steps would change the state, None if another step would."""
        if self.scheduled or self.preempted or not (self.waiting or self.running):
            return None
        if self.running:
            return f"request {self.running[0].number} can't compute another token, because its prompt fills the context"
        return f"request {self.head}"

    @property
    def kind(self) -> str:
        kinds = {"decode" if writer.number in self.decoding else "prefill" for writer in self.scheduled}
        return "start" if self.step == 0 else "mixed" if len(kinds) == 2 else next(iter(kinds), "idle")

    @property
    def why(self) -> str:
        """Return a phrase about what the step did and, if the head of the queue waits, why."""
        if self.step == 0:
            return "the state before any step"
        budget = self.options.max_num_batched_tokens
        given = " and ".join(f"{tokens} of {writer.number}" for writer, tokens in self.scheduled.items())
        done = f"{given} (a budget of {budget})" if given else "nothing to run"
        lost = f", {_named(self.preempted)} preempted for blocks" if self.preempted else ""
        return f"{done}{lost}, {self.head}"

    def moment(self) -> Moment:
        held = {page.number for writer in self.running for page in writer.pages}
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
            tuple((writer.number, tokens) for writer, tokens in self.scheduled.items()),
            _numbers(self.preempted),
        )
        queue = tuple(page.number for page in self.pages.free)
        computed = tuple(writer.computed for writer in self.running)
        return Moment(row, self.why, tuple(self.held), queue, computed, self.waits, tuple(self.exact))


def predict(
    limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[PlannedText]
) -> tuple[StepRow, ...]:
    """Return the step table of a workload, up to the step after which there is no more work.

    The three limits of this scheduler must not be None. The rows have no kind, like those of expected tables. Raises
    ImpossibleWorkload.
    """
    return tuple(moment.row._replace(kind="") for moment in moments(limits, options, requests))


def explain(limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[PlannedText], step: int) -> str:
    """Return a phrase about what step ``step`` does and, if the head of the queue waits, why."""
    for moment in moments(limits, options, requests):
        if moment.row.step == step:
            return f"step {step}: {moment.why}"
    return f"step {step}: the workload is done"


def moments(
    limits: SchedulingLimits, options: TokenBudgetSetup, requests: Sequence[PlannedText], block_size: int = BLOCK_SIZE
) -> Iterator[Moment]:
    """Yield the state after each step. Raises ImpossibleWorkload.

    ``block_size`` is in tokens. It is 64 on cards, and can also be 32 with vLLM's CPU backend.
    """
    writers = [Writer(number, plan) for number, plan in enumerate(requests)]
    engine = _Engine(limits, options, block_size)
    last = max(max(plan.join_step, plan.abort_step or 0) for plan in requests)

    def happen() -> None:
        engine.waiting += [writer for writer in writers if writer.plan.join_step == engine.step]
        for writer in writers:
            if writer.plan.abort_step == engine.step:
                engine.leave(writer)

    happen()
    yield engine.moment()
    while engine.has_work or engine.step < last:
        engine.advance()
        if engine.step >= last and (reason := engine.stuck):
            raise ImpossibleWorkload(reason)
        happen()
        yield engine.moment()


def _numbers(writers: Sequence[Writer]) -> tuple[int, ...]:
    return tuple(writer.number for writer in writers)


def _named(writers: Sequence[Writer]) -> str:
    return " ".join(map(str, _numbers(writers)))
