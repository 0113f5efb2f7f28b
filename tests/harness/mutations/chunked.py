"""Mutations of the chunked scheduler: of the schedule, and of what a step computes."""

from dataclasses import replace
from typing import Any

import pytest

from engine.config import Chunking
from engine.kv_cache import block_hash
from engine.kv_cache.block_hash import NOTHING, TokenSource, content_key
from engine.kv_cache.blocks import blocks_for, round_up_to_block
from engine.kv_cache.prefix_pool import PrefixPool
from engine.scheduling.chunked import pausing, scheduler
from engine.scheduling.chunked import sequence as chunked_sequence
from engine.scheduling.chunked.chunks import Chunks
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.chunked.sequence import ChunkedSequence
from engine.scheduling.plan import PrefillChunk
from tests.harness.mutations.registry import chunked_mutation, chunked_output_mutation


@chunked_mutation("chunks-take-turns-with-decodes", "expected a decode of 0")
def let_chunks_follow_each_other_in_spite_of_decodes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChunkedScheduler, "_may_interleave", lambda self: not self._paused)


@chunked_mutation("without-interleaving-chunks-follow-each-other", "expected a chunk of the prefill of 1")
def interleave_in_any_case(patch: pytest.MonkeyPatch) -> None:
    start = ChunkedScheduler.__init__
    patch.setattr(
        ChunkedScheduler,
        "__init__",
        lambda self, limits, chunking: start(self, limits, replace(chunking, interleave=True)),
    )


@chunked_mutation("a-prompt-of-a-chunk-and-a-token", "used")
def fill_the_first_chunk(patch: pytest.MonkeyPatch) -> None:
    """Give prompts no left padding.

    The last chunk of a prompt is then the one that is not full, instead of the first.
    """
    patch.setattr(Chunks, "left_padding", property(lambda self: 0))


@chunked_mutation("a-prompt-of-a-chunk-and-a-token", "outputs 0, expected -")
def yield_a_token_with_every_chunk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefillChunk, "request_ids", property(lambda self: (self.request_id,)))


@chunked_mutation("a-prompt-of-one-token", "tkv 64, expected 1")
def report_the_padded_prompt_as_tkv(patch: pytest.MonkeyPatch) -> None:
    chunk = ChunkedScheduler._chunk

    def padded(self: ChunkedScheduler, sequence: Any) -> Any:
        plan = chunk(self, sequence)
        self._tkv = round_up_to_block(self._tkv)
        return plan

    patch.setattr(ChunkedScheduler, "_chunk", padded)


@chunked_mutation("a-shorter-one-stands-further-in-its-block", "tkv")
def count_no_padding_in_the_tkv_of_a_decode(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scheduler, "tkvs", lambda computed: [tokens + 1 for tokens in computed])


@chunked_mutation("the-last-token-needs-a-block-more", "reserved")
def reserve_as_if_the_last_token_were_nothing(patch: pytest.MonkeyPatch) -> None:
    most = property(lambda self: blocks_for(self.prompt_length + self.max_tokens - 1))
    patch.setattr(ChunkedSequence, "most_blocks", most)


@chunked_mutation("a-reservation-shrinks-chunk-by-chunk", "reserved 8, expected 7")
def keep_a_reservation_as_it_was(patch: pytest.MonkeyPatch) -> None:
    take = PrefixPool.take

    def kept(self: PrefixPool, holder: str, blocks: int) -> None:
        take(self, holder, blocks)
        self._reserved[holder] += blocks
        self.reserved_total += blocks

    patch.setattr(PrefixPool, "take", kept)


@chunked_mutation("an-early-end-frees-what-was-reserved", "used 2, expected 0")
def free_in_the_step_after_the_end(patch: pytest.MonkeyPatch) -> None:
    commit, plan = ChunkedScheduler.commit, ChunkedScheduler.plan

    def late(self: ChunkedScheduler, ended: Any) -> None:
        self._late = ended  # type: ignore[attr-defined]
        self._running = [s for s in self._running if s.request_id not in ended] + [
            s for s in self._running if s.request_id in ended
        ]

    def freeing(self: ChunkedScheduler) -> Any:
        commit(self, getattr(self, "_late", ()))
        self._late = ()  # type: ignore[attr-defined]
        return plan(self)

    patch.setattr(ChunkedScheduler, "commit", late)
    patch.setattr(ChunkedScheduler, "plan", freeing)


@chunked_mutation("a-reservation-is-for-one-alone", "expected a decode of")
def hand_out_what_is_reserved_for_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixPool, "unreserved", property(lambda self: len(self._free)))


@chunked_mutation("blocks-in-use-are-not-counted-again", "expected a prefill of 1")
def count_shared_blocks_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixPool, "worst_case", lambda self, blocks, found: blocks)


@chunked_mutation("free-blocks-of-a-hit-are-counted", "step 8 is a")
def count_no_block_of_a_hit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixPool, "worst_case", lambda self, blocks, found: blocks - len(found))


@chunked_mutation("just-within-the-volume", "paused")
def pause_at_the_batch_tkv_limit(patch: pytest.MonkeyPatch) -> None:
    _with_batch_tkv(patch, 1)


@chunked_mutation("just-beyond-the-volume", "paused -, expected 0")
def pause_one_beyond_the_batch_tkv_limit(patch: pytest.MonkeyPatch) -> None:
    _with_batch_tkv(patch, -1)


def _with_batch_tkv(patch: pytest.MonkeyPatch, more: int) -> None:
    real = _BATCH_TKV

    def wrong(batch: Any) -> int:
        return real(batch) + more

    patch.setattr(pausing, "batch_tkv", wrong)
    patch.setattr(scheduler, "batch_tkv", wrong)


_BATCH_TKV = pausing.batch_tkv


@chunked_mutation("those-with-the-fewest-tokens-go-first", "paused")
def pause_those_with_the_fewest_tokens(patch: pytest.MonkeyPatch) -> None:
    turn = pausing.in_turn
    patch.setattr(scheduler, "in_turn", lambda s, *, longest_first: turn(s, longest_first=not longest_first))


@chunked_mutation("those-with-the-most-tokens-go-first", "paused")
def know_no_long_output_priority(patch: pytest.MonkeyPatch) -> None:
    turn = pausing.in_turn
    patch.setattr(scheduler, "in_turn", lambda s, *, longest_first: turn(s, longest_first=False))


@chunked_mutation("three-by-long-output-priority", "paused")
def forget_who_was_paused(patch: pytest.MonkeyPatch) -> None:
    def by_length(candidates: Any, *, longest_first: bool) -> Any:
        return sorted(candidates, key=lambda s: s.generated, reverse=longest_first)

    patch.setattr(scheduler, "in_turn", by_length)


@chunked_mutation("a-shorter-one-fits-where-the-longer-does-not", "paused")
def pause_everybody_behind_the_first_that_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    def divided(candidates: Any, limit: int) -> Any:
        count = 0
        while count < len(candidates) and pausing.batch_tkv(candidates[: count + 1]) <= limit:
            count += 1
        return list(candidates[:count]), list(candidates[count:])

    patch.setattr(scheduler, "divide", divided)


@chunked_mutation("two-of-three-fit", "running")
def put_who_is_resumed_to_the_front(patch: pytest.MonkeyPatch) -> None:
    pause = ChunkedScheduler._pause

    def fronted(self: ChunkedScheduler) -> None:
        before = set(self._paused)
        pause(self)
        self._running.sort(key=lambda s: s not in before)

    patch.setattr(ChunkedScheduler, "_pause", fronted)


@chunked_mutation("nobody-starts-while-somebody-is-paused", "expected a decode")
def prefill_while_requests_are_paused(patch: pytest.MonkeyPatch) -> None:
    def careless(self: ChunkedScheduler) -> bool:
        return not (self.chunking.interleave and self._ran_a_chunk and self._decoding())

    patch.setattr(ChunkedScheduler, "_may_interleave", careless)


@chunked_mutation("nothing-runs-and-somebody-is-paused", "expected a prefill of 2")
def start_no_request_while_one_is_paused(patch: pytest.MonkeyPatch) -> None:
    may_start = ChunkedScheduler._may_start
    patch.setattr(ChunkedScheduler, "_may_start", lambda self: not self._paused and may_start(self))


@chunked_mutation("a-hit-that-ends-in-the-middle-of-a-chunk", "hits 1:3, expected 1:2")
def use_a_hit_in_the_middle_of_a_chunk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Chunks, "usable", lambda self, hit: hit)


@chunked_mutation("the-same-block-behind-another-is-no-hit", "hits 2:2, expected 2:1")
def know_a_block_by_its_own_tokens_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(block_hash, "content_key", lambda before, token_ids: content_key(NOTHING, token_ids))


def keys_of_the_first_block_and_their_own(keys: list[bytes], blocks: int, tokens: TokenSource, size: int) -> None:
    """Like ``extend_keys``, but a block's key depends only on the prompt's first block and on the block's own tokens.

    A correct key depends on the tokens of all blocks before the block, too.
    """
    for start in range(len(keys) * size, blocks * size, size):
        keys.append(content_key(keys[0] if keys else NOTHING, tokens.token_ids_between(start, start + size)))


@chunked_mutation("the-third-block-is-the-same-but-not-the-second", "used 4, expected 3")
def know_a_block_by_the_first_one_and_its_own_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chunked_sequence, "extend_keys", keys_of_the_first_block_and_their_own)


@chunked_mutation("found-when-everybody-has-gone", "step 8")
def forget_what_is_freed(patch: pytest.MonkeyPatch) -> None:
    free = PrefixPool.free

    def forgetting(self: PrefixPool, holder: str) -> None:
        blocks = self.held(holder)
        free(self, holder)
        for block in blocks:
            if not self.in_use(block):
                self._forget(block)

    patch.setattr(PrefixPool, "free", forgetting)


@chunked_mutation("the-older-text-is-handed-out-first", "step 23")
def hand_out_blocks_in_the_order_in_which_they_were_freed(patch: pytest.MonkeyPatch) -> None:
    start = PrefixPool.__init__

    def plain(self: PrefixPool, available: int, **options: Any) -> None:
        start(self, available, **options)
        self._keyless_first = False  # the only effect of caching here

    patch.setattr(PrefixPool, "__init__", plain)


@chunked_mutation("the-end-of-a-text-is-handed-out-first", "step 12")
def free_the_first_block_first(patch: pytest.MonkeyPatch) -> None:
    free = PrefixPool.free

    def turned(self: PrefixPool, holder: str) -> None:
        self._held[holder].reverse()
        free(self, holder)

    patch.setattr(PrefixPool, "free", turned)


@chunked_mutation("the-older-text-is-handed-out-first", "step 17")
def hand_out_the_newest_free_block_first(patch: pytest.MonkeyPatch) -> None:
    take = PrefixPool.take

    def newest(self: PrefixPool, holder: str, blocks: int) -> None:
        for _ in range(blocks):
            self._free.move_to_end(next(reversed(self._free)), last=False)
            take(self, holder, 1)

    patch.setattr(PrefixPool, "take", newest)


@chunked_mutation("generated-blocks-are-found", "step 43")
def let_only_prompts_be_found(patch: pytest.MonkeyPatch) -> None:
    grow = ChunkedScheduler._grow

    def prompts_only(self: ChunkedScheduler, sequence: Any, tokens: int, written: int) -> None:
        grow(self, sequence, tokens, min(written, sequence.prompt_length))

    patch.setattr(ChunkedScheduler, "_grow", prompts_only)


@chunked_mutation("without-prefix-caching", "step 4")
def share_in_any_case(patch: pytest.MonkeyPatch) -> None:
    start = ChunkedScheduler.__init__

    def sharing(self: ChunkedScheduler, limits: Any, chunking: Chunking) -> None:
        start(self, limits, replace(chunking, enable_prefix_caching=True))

    patch.setattr(ChunkedScheduler, "__init__", sharing)


@chunked_mutation("chunks-take-turns-with-decodes", "running")
def leave_a_waiting_prefill_at_the_front(patch: pytest.MonkeyPatch) -> None:
    plan = ChunkedScheduler.plan

    def fronted(self: ChunkedScheduler) -> Any:
        planned = plan(self)
        self._running.sort(key=lambda s: s is not self._prefilling)
        return planned

    patch.setattr(ChunkedScheduler, "plan", fronted)


@chunked_mutation("a-full-batch-lets-nobody-start", "expected a decode")
def start_next_to_a_full_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChunkedScheduler, "_may_start", lambda self: not self._running or self._may_interleave())


@chunked_mutation("nobody-starts-during-a-prefill", "waiting 1, expected 2")
def start_the_newest_request_first(patch: pytest.MonkeyPatch) -> None:
    next_chunk = ChunkedScheduler._next_chunk

    def newest(self: ChunkedScheduler) -> Any:
        self._waiting.rotate(1)
        plan = next_chunk(self)
        if plan is None or (self._waiting and plan.start):
            self._waiting.rotate(-1)
        return plan

    patch.setattr(ChunkedScheduler, "_next_chunk", newest)


@chunked_mutation("aborted-while-it-decodes", "step 6 differs")
def free_an_aborted_request_a_step_later(patch: pytest.MonkeyPatch) -> None:
    free, plan = PrefixPool.free, ChunkedScheduler.plan
    abort = ChunkedScheduler.abort
    late: list[str] = []

    def aborted(self: ChunkedScheduler, request_id: str) -> bool:
        patch.setattr(PrefixPool, "free", lambda self, holder: late.append(holder))
        done = abort(self, request_id)
        patch.setattr(PrefixPool, "free", free)
        return done

    def planned(self: ChunkedScheduler) -> Any:
        while late:
            free(self.pool, late.pop())
        return plan(self)

    patch.setattr(ChunkedScheduler, "abort", aborted)
    patch.setattr(ChunkedScheduler, "plan", planned)


@chunked_output_mutation(
    "requests-that-are-paused-get-all-of-their-tokens", "action 0 (generate): invariant broken at step"
)
def pause_no_request(patch: pytest.MonkeyPatch) -> None:
    _with_batch_tkv(patch, -10_000)
