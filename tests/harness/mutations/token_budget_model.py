"""Faults of the scheduler model of ``token_budget``, each with the case whose golden table it contradicts."""

from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from harness.schedulers.token_budget.block_pool import Block, BlockPool
from harness.schedulers.token_budget.model import ModelRequest, Obstacle, _Engine
from harness.types import ceil_div

Patch = Callable[[pytest.MonkeyPatch], None]
MUTATIONS: list[tuple[str, Patch]] = []


def contradicts(case_id: str) -> Callable[[Patch], Patch]:
    """Return a decorator that registers a patch with the id of the case whose golden table it contradicts."""

    def register(patch: Patch) -> Patch:
        MUTATIONS.append((case_id, patch))
        return patch

    return register


# --- budget, threshold and order --------------------------------------------------------------------------------


@contradicts("two-prompts-one-token-over-the-budget")
def give_each_request_the_whole_budget(patch: pytest.MonkeyPatch) -> None:
    schedule = _Engine._schedule

    def generous(self: _Engine, request: ModelRequest, tokens: int, *, new: bool = False) -> None:
        schedule(self, request, tokens, new=new)
        self.budget += tokens

    patch.setattr(_Engine, "_schedule", generous)


@contradicts("alone-under-a-threshold-by-the-rules-of-0.32")
def hold_the_threshold_always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        _Engine,
        "_within_threshold",
        lambda self, tokens: min(tokens, self.options.long_prefill_token_threshold or tokens),
    )


@contradicts("alone-under-a-threshold-by-the-rules-of-0.27")
def let_a_request_alone_exceed_the_threshold(patch: pytest.MonkeyPatch) -> None:
    def capped(self: _Engine, tokens: int) -> int:
        alone = len(self.running) + len(self.waiting) <= 1
        return tokens if alone else min(tokens, self.options.long_prefill_token_threshold or tokens)

    patch.setattr(_Engine, "_within_threshold", capped)


@contradicts("one-waits-and-the-threshold-holds-by-the-rules-of-0.32")
def count_running_requests_alone_for_the_threshold(patch: pytest.MonkeyPatch) -> None:
    def capped(self: _Engine, tokens: int) -> int:
        return tokens if len(self.running) <= 1 else min(tokens, self.options.long_prefill_token_threshold or tokens)

    patch.setattr(_Engine, "_within_threshold", capped)


@contradicts("a-prompt-of-one-token-more-than-the-threshold")
def know_no_threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_within_threshold", lambda self, tokens: tokens)


@contradicts("the-chunk-under-way-goes-before-a-short-prompt")
def start_waiting_requests_before_running_ones_go_on(patch: pytest.MonkeyPatch) -> None:
    go_on, start = _Engine._schedule_running, _Engine._schedule_waiting

    def start_first(self: _Engine) -> None:
        before = list(self.running)
        start(self)
        started = [request for request in self.running if request not in before]
        self.running = before
        go_on(self)
        self.running += started

    patch.setattr(_Engine, "_schedule_running", start_first)
    patch.setattr(_Engine, "_schedule_waiting", lambda self: None)


@contradicts("requests-in-the-order-they-joined")
def put_new_requests_in_front_of_running(patch: pytest.MonkeyPatch) -> None:
    start = _Engine._schedule_waiting

    def in_front(self: _Engine) -> None:
        before = list(self.running)
        start(self)
        self.running = [*(w for w in self.running if w not in before), *before]

    patch.setattr(_Engine, "_schedule_waiting", in_front)


# --- admission --------------------------------------------------------------------------------------------------


def other_obstacle(patch: pytest.MonkeyPatch, allowed: Callable[[_Engine, ModelRequest, Obstacle], bool]) -> None:
    """Admit a request in spite of an obstacle, if ``allowed(engine, request, obstacle)`` is true."""
    obstacle = _Engine._obstacle

    def changed(self: _Engine, request: ModelRequest, found: list[Block]) -> Obstacle | None:
        seen = obstacle(self, request, found)
        return None if seen is not None and allowed(self, request, seen) else seen

    patch.setattr(_Engine, "_obstacle", changed)


@contradicts("one-request-more-than-places")
def let_one_more_run(patch: pytest.MonkeyPatch) -> None:
    init = _Engine.__init__

    def roomy(self: _Engine, *arguments: Any) -> None:
        init(self, *arguments)
        self.max_num_seqs += 1

    patch.setattr(_Engine, "__init__", roomy)


@contradicts("two-whole-prompts-are-one-token-over-the-budget")
def cut_prompts_without_chunked_prefill(patch: pytest.MonkeyPatch) -> None:
    other_obstacle(patch, lambda engine, request, seen: seen.what == "budget" and engine.budget > 0)


@contradicts("a-first-chunk-would-fit-but-not-the-whole-prompt")
def require_the_blocks_of_the_first_chunk_only(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, request: ModelRequest, found: list[Block]) -> int:
        return ceil_div(min(request.length, self.budget), 64) - sum(block.holders > 0 for block in found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("it-comes-back-only-when-its-whole-length-fits")
def require_the_blocks_of_the_prompt_only(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, request: ModelRequest, found: list[Block]) -> int:
        return ceil_div(len(request.plan.prompt), 64) - sum(block.holders > 0 for block in found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("max-tokens-do-not-count")
def require_the_blocks_of_max_tokens(patch: pytest.MonkeyPatch) -> None:
    def needed(self: _Engine, request: ModelRequest, found: list[Block]) -> int:
        return ceil_div(len(request.plan.prompt) + request.plan.max_tokens - 1, 64) - len(found)

    patch.setattr(_Engine, "_needed", needed)


@contradicts("hits-that-are-held-do-not-count-at-admission")
def require_blocks_that_the_request_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_needed", lambda self, request, found: ceil_div(request.length, 64))


@contradicts("free-hits-and-one-block-short")
def require_no_block_that_is_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Engine, "_needed", lambda self, request, found: ceil_div(request.length, 64) - len(found))


@contradicts("the-head-lacks-blocks-and-a-short-one-waits-behind-it")
def let_a_request_overtake_one_that_lacks_blocks(patch: pytest.MonkeyPatch) -> None:
    start = _Engine._schedule_waiting

    def overtake(self: _Engine) -> None:
        start(self)
        if self.waits is not None and self.waits[1].what == "blocks":
            head, self.waits = self.waiting.pop(0), None
            overtake(self)
            self.waiting.insert(0, head)

    patch.setattr(_Engine, "_schedule_waiting", overtake)


# --- blocks and preemption --------------------------------------------------------------------------------------


def other_victim(patch: pytest.MonkeyPatch, evict: Callable[[_Engine], ModelRequest]) -> None:
    def make_room(self: _Engine, request: ModelRequest, tokens: int) -> bool:
        while self._blocks_to_allocate(request, tokens) > len(self.pool.free):
            victim = evict(self)
            self.pool.release(victim.blocks)
            victim.blocks, victim.computed = [], 0
            self.preempted.append(victim)
            if victim is request:
                return False
        return True

    patch.setattr(_Engine, "_make_room", make_room)


@contradicts("the-last-of-three-is-preempted")
def preempt_the_second(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> ModelRequest:
        victim = engine.running.pop(min(1, len(engine.running) - 1))
        engine.waiting.insert(0, victim)
        return victim

    other_victim(patch, evict)


@contradicts("preempted-goes-before-those-that-wait")
def queue_a_preempted_request_last(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> ModelRequest:
        victim = engine.running.pop()
        engine.waiting.append(victim)
        return victim

    other_victim(patch, evict)


@contradicts("two-are-preempted-in-one-step")
def queue_the_younger_of_two_in_front(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> ModelRequest:
        victim = engine.running.pop()
        engine.waiting.insert(len(engine.preempted), victim)
        return victim

    other_victim(patch, evict)


@contradicts("a-preempted-request-keeps-its-tokens")
def forget_the_tokens_of_a_preempted_request(patch: pytest.MonkeyPatch) -> None:
    def evict(engine: _Engine) -> ModelRequest:
        victim = engine.running.pop()
        victim.outputs = 0
        engine.waiting.insert(0, victim)
        return victim

    other_victim(patch, evict)


@contradicts("growth-takes-the-last-free-block")
def keep_a_block_back(patch: pytest.MonkeyPatch) -> None:
    lacking = _Engine._blocks_to_allocate

    def one_more(self: _Engine, request: ModelRequest, tokens: int) -> int:
        missing = lacking(self, request, tokens)
        return missing + (missing > 0 and self.step > 1)

    patch.setattr(_Engine, "_blocks_to_allocate", one_more)


@contradicts("a-whole-prompt-fits-and-its-first-chunk-takes-one-block")
def take_the_blocks_of_the_whole_prompt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        _Engine, "_blocks_to_allocate", lambda self, request, tokens: ceil_div(request.length, 64) - len(request.blocks)
    )


# --- prefix cache -----------------------------------------------------------------------------------------------


def other_found(patch: pytest.MonkeyPatch, last: int, which: int) -> None:
    def found(self: BlockPool, token_ids: tuple[int, ...]) -> list[Block]:
        run: list[Block] = []
        for end in range(self.size, len(token_ids) + last, self.size):
            known = self._cached.get(token_ids[:end])
            if not known:
                break
            run.append(known[which])
        return run

    patch.setattr(BlockPool, "found", found)


@contradicts("the-same-prompt-of-64-again")
def hit_the_last_token(patch: pytest.MonkeyPatch) -> None:
    other_found(patch, 1, 0)


@contradicts("of-two-blocks-alike-the-one-registered-first-is-found")
def find_the_newest_of_blocks_alike(patch: pytest.MonkeyPatch) -> None:
    other_found(patch, 0, -1)


@contradicts("twins-in-one-step")
def find_blocks_only_after_their_step(patch: pytest.MonkeyPatch) -> None:
    register, run = BlockPool.register, _Engine._run
    later: list[tuple[BlockPool, list[Block], tuple[int, ...]]] = []

    def at_the_end(self: _Engine) -> None:
        for blocks, held, token_ids in later:
            register(blocks, held, token_ids)
        later.clear()
        run(self)

    patch.setattr(BlockPool, "register", lambda self, blocks, token_ids: later.append((self, list(blocks), token_ids)))
    patch.setattr(_Engine, "_run", at_the_end)


@contradicts("the-second-block-alike-but-not-the-first")
def know_a_block_by_its_own_tokens(patch: pytest.MonkeyPatch) -> None:
    def register(self: BlockPool, blocks: list[Block], token_ids: tuple[int, ...]) -> None:
        for place, block in enumerate(blocks[: len(token_ids) // self.size]):
            if block.key is None:
                block.key = token_ids[place * self.size : (place + 1) * self.size]
                self._cached.setdefault(block.key, []).append(block)

    def found(self: BlockPool, token_ids: tuple[int, ...]) -> list[Block]:
        own = [
            self._cached.get(token_ids[end - self.size : end]) for end in range(self.size, len(token_ids), self.size)
        ]
        return [known[0] for known in own if known]

    patch.setattr(BlockPool, "register", register)
    patch.setattr(BlockPool, "found", found)


def other_order(patch: pytest.MonkeyPatch, order: Callable[[list[Block], list[Block]], list[Block]]) -> None:
    """Set the free queue to ``order(freed, free)``: ``freed`` are a request's freed blocks, the last block first."""

    def release(self: BlockPool, blocks: list[Block]) -> None:
        for block in blocks:
            block.holders -= 1
        self.free = order([block for block in reversed(blocks) if block.holders == 0], self.free)

    patch.setattr(BlockPool, "release", release)


@contradicts("a-block-handed-out-is-lost-and-the-run-ends-before-it")
def free_the_first_block_first(patch: pytest.MonkeyPatch) -> None:
    other_order(
        patch,
        lambda freed, free: [
            *(block for block in freed if not block.key),
            *free,
            *(block for block in reversed(freed) if block.key),
        ],
    )


@contradicts("unfound-blocks-are-handed-out-first")
def queue_all_freed_blocks_last(patch: pytest.MonkeyPatch) -> None:
    other_order(patch, lambda freed, free: [*free, *freed])


@contradicts("of-two-that-ended-the-older-is-handed-out-first")
def queue_all_freed_blocks_first(patch: pytest.MonkeyPatch) -> None:
    other_order(patch, lambda freed, free: [*freed, *free])


@contradicts("found-after-the-end-of-the-one-that-computed-it")
def forget_blocks_as_they_are_freed(patch: pytest.MonkeyPatch) -> None:
    release = BlockPool.release

    def forgetful(self: BlockPool, blocks: list[Block]) -> None:
        release(self, blocks)
        for block in blocks:
            if block.holders == 0:
                self._uncache(block)

    patch.setattr(BlockPool, "release", forgetful)


# --- tokens, ends and aborts ------------------------------------------------------------------------------------


@contradicts("a-prompt-of-one-token-more-than-the-budget")
def give_a_token_with_every_chunk(patch: pytest.MonkeyPatch) -> None:
    def run(self: _Engine) -> None:
        for request in self.scheduled:
            request.outputs += 1
        self.outputs = tuple(request.number for request in self.scheduled)
        ended = [request for request in self.scheduled if self._is_done(request)]
        self.finished = tuple(request.number for request in ended)
        for request in ended:
            self.leave(request)

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

    def kept(self: _Engine, request: ModelRequest) -> None:
        request.blocks = request.blocks if request.number in self.finished else []
        leave(self, request)

    patch.setattr(_Engine, "leave", kept)
