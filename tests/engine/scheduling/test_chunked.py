"""Tests of the chunked scheduler: its options, invalid requests, and how prompts are divided into chunks."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Chunking, ConfigError, EngineConfig, Limits
from engine.core import EngineCore
from engine.entrypoints.engine_thread import EngineThread
from engine.kv_cache.block_pool import UnschedulableRequestError
from engine.request import FinishReason
from engine.scheduling.chunked.chunks import Chunks
from engine.scheduling.chunked.pausing import tkvs
from engine.scheduling.plan import AlignedDecode, PrefillChunk
from engine.sequence import SequenceState
from tests.helpers.engine import ScriptedTokens, add, is_one_sentence, planned, request, run


def chunked(limits: Limits = Limits(), **options: Any) -> EngineCore:  # noqa: B008  (frozen)
    core = EngineCore(EngineConfig(max_model_len=512, max_num_seqs=4, scheduler="chunked", **options), ScriptedTokens())
    core.reset(limits)
    return core


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk_size": 100}, "chunk_size 100 is not a multiple of 64"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"chunk_size": 128, "scheduler": "continuous"}, "chunk_size is an option of scheduler 'chunked'"),
        ({"interleave": False, "scheduler": "static"}, "interleave is an option of scheduler 'chunked'"),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        EngineConfig(**{"scheduler": "chunked", **options})
    assert is_one_sentence(str(refused.value))


def test_options_have_defaults() -> None:
    assert EngineConfig(scheduler="chunked").chunking == Chunking(128, True, True, False)
    config = EngineConfig(scheduler="chunked", chunk_size=64, enable_prefix_caching=False, long_output_priority=True)
    assert config.chunking == Chunking(64, False, True, True)


@given(st.integers(1, 3000), st.sampled_from([64, 128, 192, 512]), st.integers(0, 50))
def test_steps_and_chunks_go_together(length: int, size: int, hit_blocks: int) -> None:
    """Compute a prompt step by step after a hit of any size in the prefix cache.

    The steps must be those chunks that have tokens to compute, one step for each.
    """
    chunks = Chunks(length, size)
    hit = min(hit_blocks, (length - 1) // 64) * 64
    assert chunks.left_padding % 64 == 0
    assert 0 < chunks.in_first <= size
    assert chunks.usable(hit) <= hit
    computed, numbers = hit, []
    while computed < length:
        numbers.append(chunks.number_at(computed))
        computed += chunks.next_step(computed)
    skipped = (chunks.left_padding + chunks.usable(hit)) // size if chunks.usable(hit) else 0
    assert numbers == list(range(skipped, chunks.chunks))


@given(st.lists(st.integers(1, 600), min_size=1, max_size=5))
def test_everybody_stands_in_the_same_block_and_padding_is_whole_blocks(computed: list[int]) -> None:
    own = tkvs(computed)
    assert len({(tkv - 1) // 64 for tkv in own}) == 1
    assert all((tkv - 1 - tokens) % 64 == 0 and tkv > tokens for tkv, tokens in zip(own, computed, strict=True))


def test_plans_say_what_is_computed_and_what_is_only_read() -> None:
    core = add(chunked(), request("a", 192, 3), request("b", 192, 3))
    records = run(core)
    first, second, third = (planned(records[at], PrefillChunk) for at in (0, 1, 3))
    decode = planned(records[2], AlignedDecode)
    assert (first.number, first.left_padding, first.start, len(first.token_ids)) == (0, 64, 0, 64)
    assert (first.request_ids, len(first.blocks), first.hit_blocks) == ((), 1, 0)
    assert (second.number, second.start, len(second.token_ids), second.request_ids) == (1, 64, 128, ("a",))
    assert (decode.computed, decode.tkvs) == ((192,), (193,))
    # Two blocks are found; the chunk in which the hit ends runs whole, and its first block is only read.
    assert (third.request_ids, third.number, third.start, third.hit_blocks) == (("b",), 1, 64, 2)
    assert third.blocks[:2] == second.blocks[:2]


@pytest.mark.requirement("CP-LIMIT-01")
def test_a_request_that_the_cache_cannot_hold_is_named() -> None:
    core = add(chunked(Limits(available_blocks=2)), request("large", 129, 3), request("small", 5, 3))
    with pytest.raises(
        UnschedulableRequestError, match="request large needs up to 3 blocks, but the KV cache has only 2"
    ) as error:
        core.step()
    assert error.value.request_id == "large"
    core.abort("large")
    assert next(record.request_outputs for record in run(core)) == ("small",)


@pytest.mark.requirement("CP-LIMIT-01")
def test_a_request_whose_tkv_alone_exceeds_the_batch_tkv_is_named() -> None:
    core = add(chunked(Limits(max_batch_tkv_limit=66)), request("long", 64, 9))
    with pytest.raises(
        UnschedulableRequestError, match="request long cannot decode: its tkv 67 exceeds max_batch_tkv_limit"
    ) as error:
        run(core)
    assert error.value.request_id == "long"
    assert core.abort("long")
    run(core)
    assert core.state().n_used_blocks == 0


class Listener:
    """A subscriber of a request with which a test can wait for the end of the request."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: Exception | None = None
        self.reason: FinishReason | None = None

    def progressed(self, sequence: SequenceState) -> None:
        self.reason = sequence.finish_reason
        if self.reason is not None:
            self.ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ended.set()


def test_a_hopeless_request_fails_alone_although_it_was_paused() -> None:
    engine = EngineThread(chunked(Limits(max_batch_tkv_limit=66)))
    unschedulable, fine = Listener(), Listener()
    try:
        engine.add(request("hopeless", 64, 9), unschedulable)
        engine.add(request("fine", 5, 3), fine)
        assert unschedulable.ended.wait(20)
        assert fine.ended.wait(20)
        assert isinstance(unschedulable.error, UnschedulableRequestError)
        assert fine.reason == "length"
        assert engine.end is None
    finally:
        engine.stop(20)
