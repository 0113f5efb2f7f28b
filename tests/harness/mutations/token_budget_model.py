"""Models of the token budget that are wrong, each by a patch of one function, with the case that contradicts it."""

from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from harness.schedulers.token_budget.model import Obstacle, Writer, _Engine
from harness.schedulers.token_budget.pages import Page, Pages
from harness.types import ceil_div

Patch = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: list[tuple[str, Patch]] = []


def contradicts(case_id: str) -> Callable[[Patch], Patch]:
    """Register a patch with the case whose golden table it contradicts."""

    def register(patch: Patch) -> Patch:
        MUTATIONS.append((case_id, patch))
        return patch

    return register


# --- budget, threshold and order --------------------------------------------------------------------------------


@contradicts("two-prompts-one-token-over-the-budget")
def give_each_request_the_whole_budget(patch: pytest.MonkeyPatch) -> None:
    schedule = _Engine._schedule

    def generous(self: _Engine, writer: Writer, tokens: int, *, new: bool = False) -> None:
        schedule(self, writer, tokens, new=new)
        self.budget += tokens

    patch.setattr(_Engine, "_schedule", generous)


@contradicts("alone-under-a-threshold-by-the-rules-of-0.32")
def hold_the_threshold_always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        _Engine, "_capped", lambda self, tokens: min(tokens, self.options.long_prefill_token_threshold or tokens)
    )


@contradicts("alone-under-a-threshold-by-the-rules-of-0.27")
def let_a_request_alone_exceed_the_threshold(patch: pytest.MonkeyPatch) -> None:
    def capped(self: _Engine, tokens: int) -> int:
        alone = len(self.running) + len(self.waiting) <= 1
        return tokens if alone else min(tokens, self.options.long_prefill_token_threshold or tokens)

    patch.setattr(_Engine, "_capped", capped)


@contradicts("one-waits-and-the-threshold-holds-by-the-rules-of-0.32")
def count_running_requests_alone_for_the_threshold(patch: pytest.MonkeyPatch) -> None:
    def capped(self: _Engine, tokens: int) -> int:
        return tokens if len(self.running) <= 1 else min(tokens, self.options.long_prefill_token_threshold or tokens)

    patch.setattr(_Engine, "_capped", capped)


@contradicts("a-prompt-of-one-token-more-than-the-threshold")
def know_no_threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_capped", lambda self, tokens: tokens)


@contradicts("the-chunk-under-way-goes-before-a-short-prompt")
def start_waiting_requests_before_running_ones_go_on(patch: pytest.MonkeyPatch) -> None:
    go_on, start = _Engine._go_on, _Engine._start

    def start_first(self: _Engine) -> None:
        before = list(self.running)
        start(self)
        started = [writer for writer in self.running if writer not in before]
        self.running = before
        go_on(self)
        self.running += started

    patch.setattr(_Engine, "_go_on", start_first)
    patch.setattr(_Engine, "_start", lambda self: None)


@contradicts("requests-in-the-order-they-joined")
def put_new_requests_in_front_of_running(patch: pytest.MonkeyPatch) -> None:
    start = _Engine._start

    def in_front(self: _Engine) -> None:
        before = list(self.running)
        start(self)
        self.running = [*(w for w in self.running if w not in before), *before]

    patch.setattr(_Engine, "_start", in_front)


# --- admission --------------------------------------------------------------------------------------------------


def other_obstacle(patch: pytest.MonkeyPatch, allowed: Callable[[_Engine, Writer, Obstacle], bool]) -> None:
    """Drop the obstacles that ``allowed`` lets pass."""
    obstacle = _Engine._obstacle

    def changed(self: _Engine, writer: Writer, found: list[Page]) -> Obstacle | None:
        seen = obstacle(self, writer, found)
        return None if seen is not None and allowed(self, writer, seen) else seen

    patch.setattr(_Engine, "_obstacle", changed)


@contradicts("one-request-more-than-places")
def let_one_more_run(patch: pytest.MonkeyPatch) -> None:
    init = _Engine.__init__

    def roomy(self: _Engine, *arguments: Any) -> None:
        init(self, *arguments)
        self.seats += 1

    patch.setattr(_Engine, "__init__", roomy)


@contradicts("two-whole-prompts-are-one-token-over-the-budget")
def cut_prompts_without_chunked_prefill(patch: pytest.MonkeyPatch) -> None:
    other_obstacle(patch, lambda engine, writer, seen: seen.what == "budget" and engine.budget > 0)


@contradicts("a-first-chunk-would-fit-but-not-the-whole-prompt")
def require_the_blocks_of_the_first_chunk_only(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, writer: Writer, found: list[Page]) -> int:
        return ceil_div(min(writer.length, self.budget), 64) - sum(page.holders > 0 for page in found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("it-comes-back-only-when-its-whole-length-fits")
def require_the_blocks_of_the_prompt_only(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, writer: Writer, found: list[Page]) -> int:
        return ceil_div(len(writer.plan.prompt), 64) - sum(page.holders > 0 for page in found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("max-tokens-do-not-count")
def require_the_blocks_of_max_tokens(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, writer: Writer, found: list[Page]) -> int:
        return ceil_div(len(writer.plan.prompt) + writer.plan.max_tokens - 1, 64) - len(found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("hits-that-are-held-do-not-count-at-admission")
def require_blocks_that_the_request_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_needed", lambda self, writer, found: ceil_div(writer.length, 64))


@contradicts("free-hits-and-one-block-short")
def require_no_block_that_is_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_needed", lambda self, writer, found: ceil_div(writer.length, 64) - len(found))


@contradicts("the-head-lacks-blocks-and-a-short-one-waits-behind-it")
def let_a_request_overtake_one_that_lacks_blocks(patch: pytest.MonkeyPatch) -> None:
    start = _Engine._start

    def overtake(self: _Engine) -> None:
        start(self)
        if self.waits is not None and self.waits[1].what == "blocks":
            head, self.waits = self.waiting.pop(0), None
            overtake(self)
            self.waiting.insert(0, head)

    patch.setattr(_Engine, "_start", overtake)


# --- blocks and preemption --------------------------------------------------------------------------------------


def other_victim(patch: pytest.MonkeyPatch, evict: Callable[[_Engine], Writer]) -> None:
    def make_room(self: _Engine, writer: Writer, tokens: int) -> bool:
        while self._lacking(writer, tokens) > len(self.pages.free):
            victim = evict(self)
            self.pages.give_back(victim.pages)
            victim.pages, victim.computed = [], 0
            self.preempted.append(victim)
            if victim is writer:
                return False
        return True

    patch.setattr(_Engine, "_make_room", make_room)


@contradicts("the-last-of-three-is-preempted")
def preempt_the_second(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> Writer:
        victim = engine.running.pop(min(1, len(engine.running) - 1))
        engine.waiting.insert(0, victim)
        return victim

    other_victim(patch, evict)


@contradicts("preempted-goes-before-those-that-wait")
def queue_a_preempted_request_last(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> Writer:
        victim = engine.running.pop()
        engine.waiting.append(victim)
        return victim

    other_victim(patch, evict)


@contradicts("two-are-preempted-in-one-step")
def queue_the_younger_of_two_in_front(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> Writer:
        victim = engine.running.pop()
        engine.waiting.insert(len(engine.preempted), victim)
        return victim

    other_victim(patch, evict)


@contradicts("a-preempted-request-keeps-its-tokens")
def forget_the_tokens_of_a_preempted_request(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> Writer:
        victim = engine.running.pop()
        victim.outputs = 0
        engine.waiting.insert(0, victim)
        return victim

    other_victim(patch, evict)


@contradicts("growth-takes-the-last-free-block")
def keep_a_block_back(patch: pytest.MonkeyPatch) -> None:
    lacking = _Engine._lacking

    def one_more(self: _Engine, writer: Writer, tokens: int) -> int:
        missing = lacking(self, writer, tokens)
        return missing + (missing > 0 and self.step > 1)

    patch.setattr(_Engine, "_lacking", one_more)


@contradicts("a-whole-prompt-fits-and-its-first-chunk-takes-one-block")
def take_the_blocks_of_the_whole_prompt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_lacking", lambda self, writer, tokens: ceil_div(writer.length, 64) - len(writer.pages))


# --- prefix cache -----------------------------------------------------------------------------------------------


def other_found(patch: pytest.MonkeyPatch, last: int, which: int) -> None:
    def found(self: Pages, text: tuple[int, ...]) -> list[Page]:
        run: list[Page] = []
        for end in range(self.size, len(text) + last, self.size):
            known = self._shelf.get(text[:end])
            if not known:
                break
            run.append(known[which])
        return run

    patch.setattr(Pages, "found", found)


@contradicts("the-same-prompt-of-64-again")
def hit_the_last_token(patch: pytest.MonkeyPatch) -> None:
    other_found(patch, 1, 0)


@contradicts("of-two-blocks-alike-the-one-registered-first-is-found")
def find_the_newest_of_blocks_alike(patch: pytest.MonkeyPatch) -> None:
    other_found(patch, 0, -1)


@contradicts("twins-in-one-step")
def find_blocks_only_after_their_step(patch: pytest.MonkeyPatch) -> None:
    remember, run = Pages.remember, _Engine._run
    later: list[tuple[Pages, list[Page], tuple[int, ...]]] = []

    def at_the_end(self: _Engine) -> None:
        for pages, held, text in later:
            remember(pages, held, text)
        later.clear()
        run(self)

    patch.setattr(Pages, "remember", lambda self, pages, text: later.append((self, list(pages), text)))
    patch.setattr(_Engine, "_run", at_the_end)


@contradicts("the-second-block-alike-but-not-the-first")
def know_a_block_by_its_own_tokens(patch: pytest.MonkeyPatch) -> None:
    def remember(self: Pages, pages: list[Page], text: tuple[int, ...]) -> None:
        for place, page in enumerate(pages[: len(text) // self.size]):
            if page.text is None:
                page.text = text[place * self.size : (place + 1) * self.size]
                self._shelf.setdefault(page.text, []).append(page)

    def found(self: Pages, text: tuple[int, ...]) -> list[Page]:
        own = [self._shelf.get(text[end - self.size : end]) for end in range(self.size, len(text), self.size)]
        return [known[0] for known in own if known]

    patch.setattr(Pages, "remember", remember)
    patch.setattr(Pages, "found", found)


def other_order(patch: pytest.MonkeyPatch, order: Callable[[list[Page], list[Page]], list[Page]]) -> None:
    """Queue freed pages as ``order(freed, free)`` says; ``freed`` has the last page of a request first."""

    def give_back(self: Pages, pages: list[Page]) -> None:
        for page in pages:
            page.holders -= 1
        self.free = order([page for page in reversed(pages) if page.holders == 0], self.free)

    patch.setattr(Pages, "give_back", give_back)


@contradicts("a-block-handed-out-is-lost-and-the-run-ends-before-it")
def free_the_first_block_first(patch: pytest.MonkeyPatch) -> None:
    other_order(
        patch,
        lambda freed, free: [*(p for p in freed if not p.text), *free, *(p for p in reversed(freed) if p.text)],
    )


@contradicts("unfound-blocks-are-handed-out-first")
def queue_all_freed_blocks_last(patch: pytest.MonkeyPatch) -> None:
    other_order(patch, lambda freed, free: [*free, *freed])


@contradicts("of-two-that-ended-the-older-is-handed-out-first")
def queue_all_freed_blocks_first(patch: pytest.MonkeyPatch) -> None:
    other_order(patch, lambda freed, free: [*freed, *free])


@contradicts("found-after-the-end-of-the-one-that-computed-it")
def forget_blocks_as_they_are_freed(patch: pytest.MonkeyPatch) -> None:
    give_back = Pages.give_back

    def forgetful(self: Pages, pages: list[Page]) -> None:
        give_back(self, pages)
        for page in pages:
            if page.holders == 0:
                self._forget(page)

    patch.setattr(Pages, "give_back", forgetful)


# --- tokens, ends and aborts ------------------------------------------------------------------------------------


@contradicts("a-prompt-of-one-token-more-than-the-budget")
def give_a_token_with_every_chunk(patch: pytest.MonkeyPatch) -> None:
    def run(self: _Engine) -> None:
        for writer in self.scheduled:
            writer.outputs += 1
        self.outputs = tuple(writer.number for writer in self.scheduled)
        ended = [writer for writer in self.scheduled if self._is_done(writer)]
        self.finished = tuple(writer.number for writer in ended)
        for writer in ended:
            self.leave(writer)

    patch.setattr(_Engine, "_run", run)


@contradicts("the-context-is-full")
def let_a_request_outgrow_the_context(patch: pytest.MonkeyPatch) -> None:
    init = _Engine.__init__

    def boundless(self: _Engine, *arguments: Any) -> None:
        init(self, *arguments)
        self.context = inf

    patch.setattr(_Engine, "__init__", boundless)


@contradicts("the-last-end-is-followed-by-an-empty-step")
def stop_with_the_last_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "has_work", property(lambda self: bool(self.waiting or self.running)))


@contradicts("an-abort-makes-room-for-the-next")
def keep_the_blocks_of_an_aborted_request(patch: pytest.MonkeyPatch) -> None:
    leave = _Engine.leave

    def kept(self: _Engine, writer: Writer) -> None:
        if writer.number not in self.finished:
            writer.pages = []
        leave(self, writer)

    patch.setattr(_Engine, "leave", kept)
