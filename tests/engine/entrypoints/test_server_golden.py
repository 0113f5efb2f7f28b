"""Tests of requests over HTTP whose tokens are given (golden tokens), in the form that the plugins accept."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from engine.entrypoints.llm import LLM
from engine.request import SamplingParams
from tests.helpers.server_process import error_of

MODEL = "tiny-granite"
PROMPT = "Return the number of"
GIVEN = [40, 41, 42, 43]


def complete(client: OpenAI, injector: object, **more: object) -> Any:
    extra = {"vllm_xargs": {"golden_token_injector": injector}, "return_token_ids": True}
    fields: dict[str, Any] = {
        "model": MODEL,
        "prompt": PROMPT,
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": 0,
        **more,
    }
    create: Any = client.completions.create
    return create(**fields, extra_body=extra).choices[0]


def test_given_tokens_come_and_then_the_models_own(client: OpenAI, llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=6, logprobs=0, golden_token_ids=tuple(GIVEN))
    wanted = llm.generate(PROMPT, params, progress=False)[0].outputs[0]
    choice = complete(client, json.dumps({"expected_token_ids": GIVEN, "label": "#1"}))
    assert choice.token_ids == list(wanted.token_ids)
    assert choice.token_ids[:4] == GIVEN
    own = [at[token].logprob for token, at in zip(wanted.token_ids, wanted.logprobs or (), strict=True)]
    assert choice.logprobs.token_logprobs == pytest.approx(own, abs=1e-4), "the model's logprobs"


def test_a_chat_takes_them_too(client: OpenAI) -> None:
    extra = {
        "vllm_xargs": {"golden_token_injector": json.dumps({"expected_token_ids": GIVEN})},
        "return_token_ids": True,
    }
    messages = [{"role": "user", "content": "What is a list?"}]
    create: Any = client.chat.completions.create
    reply = create(model=MODEL, messages=messages, max_tokens=4, extra_body=extra)
    assert reply.choices[0].token_ids == GIVEN


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"golden_token_injector": "{"}, "golden_token_injector: Invalid JSON"),
        ({"golden_token_injector": "{}"}, "expected_token_ids: Field required"),
        ({"golden_token_injector": '{"expected_token_ids": []}'}, "at least 1 item"),
        ({"golden_token_injector": '{"expected_token_ids": [1], "error_threshold": 0.1}'}, "error_threshold"),
        ({"golden_token_injector": {"expected_token_ids": [1]}}, "must be a string that contains a JSON object"),
        ({"golden_token_injector": '{"expected_token_ids": [2048]}'}, "golden token id 2048 is outside the vocabulary"),
        ({"others": "x"}, "must be an object whose only key is golden_token_injector"),
    ],
)
def test_what_is_refused(client: OpenAI, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="a", extra_body={"vllm_xargs": arguments})
    assert says in error_of(refused.value)["message"]
    assert error_of(refused.value)["param"] == "vllm_xargs"
