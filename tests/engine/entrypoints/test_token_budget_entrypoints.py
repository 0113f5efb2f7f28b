"""Tests of the token-budget scheduler with each entry point. The KV cache is so small that requests are preempted."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import torch

from engine.core import StepRecord
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.llm import LLM
from engine.entrypoints.validation import RequestRefusedError
from engine.request import FinishReason, SamplingParams
from tests.helpers.engine import random_tokens
from tests.helpers.server_process import SECONDS, Server, eventually, post, started

SHAPES = [(60, 40), (64, 30), (120, 30), (10, 50)]
PROMPTS = [random_tokens(length, i) for i, (length, _) in enumerate(SHAPES)]
OPTIONS = {"scheduler": "token_budget", "max_model_len": 256, "max_num_seqs": 4, "num_blocks": 6}


def params(max_tokens: int, **more: object) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small() -> LLM:
    """Return an engine whose KV cache has only five blocks, so that requests are preempted."""
    torch.set_num_threads(1)
    return LLM("tiny-granite", max_num_batched_tokens=64, **OPTIONS)


@pytest.fixture
def expected(llm: LLM) -> list[tuple[int, ...]]:
    """Return the tokens that ``llm`` generates: an engine with another scheduler, which has enough blocks."""
    outputs = llm.generate(
        [{"prompt_token_ids": prompt} for prompt in PROMPTS], [params(n) for _, n in SHAPES], progress=False
    )
    return [output.outputs[0].token_ids for output in outputs]


def test_offline(small: LLM, expected: list[tuple[int, ...]]) -> None:
    records: list[StepRecord] = []
    outputs = small.generate(
        [{"prompt_token_ids": prompt} for prompt in PROMPTS],
        [params(n) for _, n in SHAPES],
        progress=False,
        on_step=records.append,
    )
    assert [output.outputs[0].token_ids for output in outputs] == expected
    assert any(record.token_budget and record.token_budget.preempted for record in records)


def test_what_does_not_fit_the_context_is_cut_off(small: LLM) -> None:
    (output,) = small.generate({"prompt_token_ids": random_tokens(250, 1)}, params(50), progress=False)
    assert (len(output.outputs[0].token_ids), output.outputs[0].finish_reason) == (6, FinishReason.LENGTH)
    with pytest.raises(RequestRefusedError, match="prompt length is 256 tokens, which leaves no room"):
        small.generate({"prompt_token_ids": random_tokens(256, 1)}, params(1), progress=False)


def test_async(small: LLM, expected: list[tuple[int, ...]]) -> None:
    front = AsyncLLM(small.engine)

    async def answer(number: int) -> tuple[int, ...]:
        prompt = {"prompt_token_ids": PROMPTS[number]}
        async for output in front.generate(prompt, params(SHAPES[number][1]), str(number)):
            tokens = output.outputs[0].token_ids
        return tokens

    async def test() -> list[tuple[int, ...]]:
        answers = await asyncio.gather(*(answer(i) for i in range(len(SHAPES))))
        leaving = front.generate({"prompt_token_ids": PROMPTS[0]}, params(40), "leaving")
        await anext(leaving)
        await leaving.aclose()
        await front.idle()
        return answers

    try:
        assert asyncio.run(asyncio.wait_for(test(), SECONDS)) == expected
        assert front.state().n_used_blocks == 0
    finally:
        front.shutdown()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    flags = "--scheduler token_budget --max-num-batched-tokens 64 --max-model-len 256 --num-blocks 6 --rules 0.32"
    with started(*flags.split()) as ready:
        yield ready


def complete(server: Server, prompt: tuple[int, ...], max_tokens: int) -> httpx2.Response:
    body = {"prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    return post(server, body | {"return_token_ids": True})


def test_server(server: Server, expected: list[tuple[int, ...]]) -> None:
    # A request is preempted only if the requests overlap, and on a busy machine one can end before the next arrives.
    for _ in range(10):
        with ThreadPoolExecutor(len(SHAPES)) as clients:
            answers = list(clients.map(complete, [server] * len(SHAPES), PROMPTS, [n for _, n in SHAPES]))
        assert [tuple(answer.json()["choices"][0]["token_ids"]) for answer in answers] == expected
        metrics = server.metrics()
        if metrics["vllm:num_preemptions_total"]:
            break
    assert metrics["vllm:num_preemptions_total"] >= 1
    assert metrics['spyre_cb_steps_total{kind="mixed"}'] >= 1
    assert metrics["spyre_cb_blocks_available"] == 5
    eventually(server.is_empty)


def test_the_server_refuses_what_does_not_fit_the_context(server: Server) -> None:
    refused = complete(server, random_tokens(250, 1), 7)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, "max_tokens", "context_length_exceeded")
    assert "you requested 7 output tokens and your prompt contains 250 input tokens" in error["message"]
    assert complete(server, random_tokens(250, 1), 6).json()["usage"]["completion_tokens"] == 6
