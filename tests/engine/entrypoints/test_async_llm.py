"""Tests of AsyncLLM: streams equal the results of the offline API, and a disconnect does not affect other requests."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from engine.build import Engine
from engine.config import EngineConfig, Limits
from engine.core import EngineCore
from engine.entrypoints.async_llm import AsyncLLM, QueueFullError
from engine.entrypoints.deltas import merged
from engine.entrypoints.engine_thread import EngineDeadError, EngineStoppedError
from engine.entrypoints.llm import LLM
from engine.entrypoints.prompts import Prompt
from engine.entrypoints.validation import RequestRefusedError
from engine.request import RequestOutput, RequestOutputKind, SamplingParams, TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState
from tests.helpers.engine import ScriptedTokens

DELTA, FINAL_ONLY, CUMULATIVE = RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY, RequestOutputKind.CUMULATIVE
PROMPT = "def foo(x):"
SECONDS = 60


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, SECONDS))


def greedy(max_tokens: int, kind: RequestOutputKind = DELTA, **params: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, output_kind=kind, **params)


async def collected(outputs: AsyncIterator[RequestOutput]) -> list[RequestOutput]:
    return [output async for output in outputs]


def added_up(deltas: list[RequestOutput]) -> dict[int, Any]:
    whole: dict[int, Any] = {}
    for output in deltas:
        for delta in output.outputs:
            whole[delta.index] = merged(whole[delta.index], delta) if delta.index in whole else delta
    return whole


@pytest.fixture
def async_llm(llm: LLM) -> Iterator[AsyncLLM]:
    """Return an AsyncLLM that uses the engine of other tests, and shut it down after the test."""
    front = AsyncLLM(llm.engine)
    yield front
    front.shutdown()


class Fragile(ScriptedTokens):
    """An executor that runs a step only after ``leave.release()``, and raises ``error`` if it is not None."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = threading.Semaphore(0)
        self.error: BaseException | None = None

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        assert self.leave.acquire(timeout=SECONDS)
        if self.error is not None:
            raise self.error
        return super().execute(plan, sequences)


@pytest.fixture
def fragile(llm: LLM) -> Iterator[tuple[AsyncLLM, Fragile]]:
    """Return an AsyncLLM with an executor of class Fragile, and this executor."""
    executor = Fragile()
    core = EngineCore(
        EngineConfig(max_model_len=512, max_num_seqs=4), executor, decode_text=llm.engine.tokenizer.decode
    )
    front = AsyncLLM(Engine(llm.engine.checkpoint, llm.engine.tokenizer, core))
    yield front, executor
    executor.leave.release(1000)
    front.shutdown()


@pytest.mark.parametrize("params", [{}, {"logprobs": 2}, {"stop": "return"}, {"min_tokens": 5}], ids=str)
def test_every_kind_of_output_ends_in_what_the_offline_api_returns(llm: LLM, params: dict[str, Any]) -> None:
    (offline,) = llm.generate(PROMPT, greedy(30, **params), progress=False)
    async_llm = AsyncLLM(llm.engine)

    async def test() -> None:
        cumulative, delta, final = [
            await collected(async_llm.generate(PROMPT, greedy(30, kind, **params), str(kind)))
            for kind in (CUMULATIVE, DELTA, FINAL_ONLY)
        ]
        assert cumulative[-1].outputs == final[-1].outputs == offline.outputs
        assert added_up(delta) == {0: offline.outputs[0]}
        assert len(final) == 1
        assert [output.finished for output in delta] == [False] * (len(delta) - 1) + [True]
        assert delta[0].prompt_token_ids == offline.prompt_token_ids
        texts = [output.outputs[0].text for output in cumulative]
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))

    run(test())
    async_llm.shutdown()


def test_three_answers_are_those_of_the_offline_api(llm: LLM) -> None:
    params = SamplingParams(n=3, temperature=1.0, seed=5, max_tokens=8, ignore_eos=True)
    (offline,) = llm.generate(PROMPT, params, progress=False)
    async_llm = AsyncLLM(llm.engine)

    async def test() -> None:
        wanted = {completion.index: completion for completion in offline.outputs}
        deltas = await collected(async_llm.generate(PROMPT, replace(params, output_kind=DELTA), "a"))
        (final,) = await collected(async_llm.generate(PROMPT, replace(params, output_kind=FINAL_ONLY), "b"))
        cumulative = await collected(async_llm.generate(PROMPT, params, "c"))
        assert added_up(deltas) == wanted
        assert final.outputs == offline.outputs == cumulative[-1].outputs

    run(test())
    async_llm.shutdown()


@pytest.mark.parametrize("kind", [DELTA, FINAL_ONLY])
def test_twenty_at_once_of_which_every_third_leaves(async_llm: AsyncLLM, kind: RequestOutputKind) -> None:
    async def client(number: int) -> int:
        params = SamplingParams(n=3, temperature=1.0, max_tokens=12, ignore_eos=True, output_kind=kind)
        outputs = await collected(async_llm.generate(PROMPT, params, str(number)))
        whole = added_up(outputs)
        assert [len(whole[index].token_ids) for index in range(3)] == [12] * 3
        return number

    async def test() -> None:
        tasks = [asyncio.create_task(client(number)) for number in range(20)]
        while async_llm.state().tkv == 0:
            await asyncio.sleep(0)
        for task in tasks[2::3]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(ended):
            assert isinstance(result, asyncio.CancelledError) if number % 3 == 2 else result == number
        await async_llm.idle()
        assert async_llm.unfinished == 0
        assert (async_llm.state().n_used_blocks, async_llm.state().n_reserved_blocks) == (0, 0)
        assert await client(99) == 99

    run(test())


def test_closing_the_generator_frees_the_blocks(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        outputs = async_llm.generate(PROMPT, greedy(400), "a")
        await anext(outputs)
        assert async_llm.state().n_used_blocks > 0
        await outputs.aclose()
        await async_llm.idle()
        assert (async_llm.unfinished, async_llm.state().n_used_blocks) == (0, 0)

    run(test())


def test_an_abort_ends_the_stream_and_says_so(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        outputs = async_llm.generate(PROMPT, greedy(400), "a")
        await anext(outputs)
        await async_llm.abort("a")
        await async_llm.abort("nobody")
        last = (await collected(outputs))[-1]
        assert (last.finished, last.outputs[0].finish_reason) == (True, "abort")

    run(test())


def test_an_id_is_taken_only_as_long_as_its_request_runs(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        outputs = async_llm.generate(PROMPT, greedy(400), "a")
        await anext(outputs)
        with pytest.raises(ValueError, match="request id a is already in use"):
            await anext(async_llm.generate(PROMPT, greedy(4), "a"))
        await outputs.aclose()
        assert len(added_up(await collected(async_llm.generate(PROMPT, greedy(4), "a")))[0].token_ids) == 4

    run(test())


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "says"),
    [
        ("", 4, "the prompt is empty"),
        ({"prompt_token_ids": (5,) * 450}, 4, "prompt length is 450 tokens, which gets padded to 512 tokens"),
        ({"prompt_token_ids": (5, 2048)}, 4, "token id 2048 is outside the vocabulary"),
    ],
    ids=["empty", "too long", "unknown token"],
)
def test_it_refuses_what_the_offline_api_refuses(llm: LLM, prompt: Prompt, max_tokens: int, says: str) -> None:
    with pytest.raises(RequestRefusedError, match=says) as offline:
        llm.generate(prompt, greedy(max_tokens), progress=False)
    async_llm = AsyncLLM(llm.engine)
    with pytest.raises(RequestRefusedError, match=says) as here:
        run(collected(async_llm.generate(prompt, greedy(max_tokens), "a")))
    assert str(here.value) == str(offline.value)
    async_llm.shutdown()


def test_no_more_than_was_agreed_is_under_way(llm: LLM) -> None:
    async_llm = AsyncLLM(llm.engine, max_unfinished=2)

    async def test() -> None:
        first = async_llm.generate(PROMPT, greedy(400), "a")
        await anext(first)
        with pytest.raises(QueueFullError, match="1 sequences are unfinished and 2 more were requested"):
            await anext(async_llm.generate(PROMPT, SamplingParams(n=2), "b"))
        second = async_llm.generate(PROMPT, greedy(4), "c")
        assert len(await collected(second)) >= 1
        await first.aclose()
        assert async_llm.unfinished == 0

    run(test())
    async_llm.shutdown()


def test_a_reader_that_is_slow_finds_everything_in_one(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        outputs = async_llm.generate(PROMPT, greedy(40), "a")
        first = await anext(outputs)
        await async_llm.idle()
        rest = await collected(outputs)
        assert len(rest) == 1
        assert len(first.outputs[0].token_ids) + len(rest[0].outputs[0].token_ids) == 40

    run(test())


def test_everybody_sees_the_engine_die_and_nothing_runs_on_it_afterwards(fragile: tuple[AsyncLLM, Fragile]) -> None:
    async_llm, executor = fragile

    async def test() -> None:
        streams = [async_llm.generate(PROMPT, greedy(400, kind), f"{kind}") for kind in (DELTA, CUMULATIVE)]
        for stream in streams:
            first = asyncio.ensure_future(anext(stream))
            while not first.done():
                executor.leave.release()
                await asyncio.sleep(0.002)
        final = asyncio.create_task(collected(async_llm.generate(PROMPT, greedy(400, FINAL_ONLY), "final")))
        await asyncio.sleep(0)
        executor.error = RuntimeError("the card is on fire")
        executor.leave.release()
        for waiting in (*map(collected, streams), final):
            with pytest.raises(EngineDeadError, match="the card is on fire") as seen:
                await waiting
            assert seen.value.__cause__ is executor.error
        with pytest.raises(EngineDeadError):
            await collected(async_llm.generate(PROMPT, greedy(4), "late"))
        assert isinstance(async_llm.dead, EngineDeadError)
        assert async_llm.unfinished == 0

    run(test())


def test_a_shutdown_fails_what_runs(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        outputs = async_llm.generate(PROMPT, greedy(400), "a")
        await anext(outputs)
        await asyncio.to_thread(async_llm.shutdown)
        with pytest.raises(EngineStoppedError):
            await collected(outputs)
        with pytest.raises(EngineStoppedError):
            await collected(async_llm.generate(PROMPT, greedy(4), "b"))

    run(test())


def test_limits_can_be_tightened_between_requests(async_llm: AsyncLLM) -> None:
    async def test() -> None:
        assert (await async_llm.reset(Limits(max_model_len=128))).max_model_len == 128
        with pytest.raises(RequestRefusedError, match="max model context length is 128"):
            await collected(async_llm.generate(PROMPT, greedy(100), "a"))
        await async_llm.reset(Limits())
        assert await collected(async_llm.generate(PROMPT, greedy(100), "a"))

    run(test())


def test_one_engine_serves_one_event_loop_after_another(async_llm: AsyncLLM) -> None:
    for number in range(3):
        (output,) = run(collected(async_llm.generate(PROMPT, greedy(5, FINAL_ONLY), str(number))))
        assert len(output.outputs[0].token_ids) == 5
