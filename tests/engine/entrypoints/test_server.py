"""Tests of the server with the built-in model, through the official client, httpx and raw sockets."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import NotFoundError, OpenAI

from engine.entrypoints.llm import LLM
from engine.entrypoints.prompts import Prompt
from engine.request import RequestOutput, SamplingParams
from tests.helpers.engine import with_logprobs
from tests.helpers.narrow import present
from tests.helpers.server_process import SECONDS, Server, eventually, post, posted_by_hand

pytestmark = pytest.mark.usefixtures("server_is_left_empty")

MODEL = "tiny-granite"
PROMPT = "def foo(x):"
IGNORE_EOS = {"ignore_eos": True, "return_token_ids": True}


def offline(llm: LLM, prompt: Prompt, max_tokens: int, **params: Any) -> RequestOutput:
    settings = {"temperature": 0, "ignore_eos": True, **params}
    (output,) = llm.generate(prompt, SamplingParams(max_tokens=max_tokens, **settings), progress=False)
    return output


def test_streaming_equals_not_streaming_equals_offline(server: Server, client: OpenAI, llm: LLM) -> None:
    wanted = offline(llm, PROMPT, 30).outputs[0]
    requested = dict[str, Any](model=MODEL, prompt=PROMPT, max_tokens=30, temperature=0, extra_body=IGNORE_EOS)
    whole = client.completions.create(**requested)
    assert whole.choices[0].text == wanted.text
    assert tuple(whole.choices[0].token_ids) == wanted.token_ids
    assert whole.choices[0].finish_reason == "length"
    usage = (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens)
    length = len(llm.engine.tokenizer.encode(PROMPT))
    assert usage == (length, 30, length + 30)
    chunks = list(client.completions.create(**requested, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == wanted.text
    assert tuple(token for choice in choices for token in choice.token_ids or ()) == wanted.token_ids
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert chunks[-1].usage == whole.usage
    assert not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_is_events_that_end_with_done(server: Server) -> None:
    body = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=SECONDS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line for line in answer.iter_lines() if line]
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-1])


def test_a_chat_is_its_template_offline(client: OpenAI, llm: LLM) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a list?"}]
    token_ids = llm.engine.tokenizer.encode_chat(messages)
    text = llm.engine.tokenizer.decode(token_ids, skip_special_tokens=False)
    assert text.endswith("What is a list?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>")
    wanted = offline(llm, {"prompt_token_ids": token_ids}, 20).outputs[0]
    requested = dict[str, Any](model=MODEL, max_completion_tokens=20, temperature=0, extra_body=IGNORE_EOS)
    whole = client.chat.completions.create(messages=messages, **requested)
    assert whole.choices[0].message.content == wanted.text
    assert whole.choices[0].message.role == "assistant"
    assert whole.usage.prompt_tokens == len(token_ids)
    texts = [{"type": "text", "text": text} for text in ("What is ", "a list?")]
    parts = [messages[0], {"role": "user", "content": texts}]
    chunks = list(client.chat.completions.create(messages=parts, stream=True, **requested))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == wanted.text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_logprobs_are_those_of_the_offline_api(client: OpenAI, llm: LLM) -> None:
    wanted = offline(llm, PROMPT, 5, logprobs=3).outputs[0]
    got = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=5, temperature=0, logprobs=3).choices[0]
    chosen = [position[token] for token, position in with_logprobs(wanted)]
    logprobs = present(got.logprobs)
    assert logprobs.tokens == [entry.decoded_token for entry in chosen]
    assert logprobs.token_logprobs == pytest.approx([entry.logprob for entry in chosen], abs=1e-4)
    assert [len(position) for position in present(logprobs.top_logprobs)] == [3] * 5
    at = present(logprobs.text_offset)
    assert [got.text[i:j] for i, j in zip(at, [*at[1:], None], strict=True)] == logprobs.tokens


def test_offsets_point_at_tokens_also_where_special_ones_are_shown(client: OpenAI) -> None:
    extras = {"skip_special_tokens": False, "ignore_eos": True}
    requested = dict[str, Any](model=MODEL, prompt=[2], max_tokens=30, temperature=0, logprobs=1, extra_body=extras)
    got = client.completions.create(**requested).choices[0]
    pairs = zip(got.logprobs.text_offset, got.logprobs.tokens, strict=True)
    assert all(got.text[at:].startswith(token) for at, token in pairs)
    assert "<|end_of_text|>" in got.text


def test_logprobs_of_a_chat(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "a"}]
    requested = dict[str, Any](model=MODEL, messages=messages, max_tokens=4, temperature=0)
    whole = client.chat.completions.create(**requested, logprobs=True, top_logprobs=2).choices[0]
    assert [len(entry.top_logprobs) for entry in whole.logprobs.content] == [2] * 4
    assert all(entry.top_logprobs[0].token == entry.token for entry in whole.logprobs.content), "greedy"
    assert bytes(whole.logprobs.content[0].bytes).decode() == whole.logprobs.content[0].token
    chunks = list(client.chat.completions.create(**requested, logprobs=True, stream=True))
    streamed = [entry for chunk in chunks for entry in getattr(chunk.choices[0].logprobs, "content", None) or ()]
    assert [entry.token for entry in streamed] == [entry.token for entry in whole.logprobs.content]
    assert all(entry.top_logprobs == [] for entry in streamed)


def test_two_answers_at_temperature_one(client: OpenAI, llm: LLM) -> None:
    wanted = offline(llm, PROMPT, 12, n=2, temperature=1.0, seed=7).outputs
    requested = dict[str, Any](model=MODEL, prompt=PROMPT, max_tokens=12, n=2, seed=7, extra_body=IGNORE_EOS)
    whole = client.completions.create(**requested)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert [choice.text for choice in whole.choices] == [completion.text for completion in wanted]
    assert whole.choices[0].text != whole.choices[1].text
    assert whole.usage.completion_tokens == 24
    texts = ["", ""]
    for chunk in client.completions.create(**requested, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_several_prompts_of_every_kind(client: OpenAI, llm: LLM) -> None:
    first, second = (llm.engine.tokenizer.encode(text) for text in (PROMPT, "The list"))
    wanted = [offline(llm, {"prompt_token_ids": ids}, 6).outputs[0].text for ids in (first, second)]
    requested = dict[str, Any](model=MODEL, max_tokens=6, temperature=0, extra_body=IGNORE_EOS)
    for prompts in ([PROMPT, "The list"], [list(first), list(second)]):
        assert [choice.text for choice in client.completions.create(prompt=prompts, **requested).choices] == wanted
    assert [choice.text for choice in client.completions.create(prompt=list(first), **requested).choices] == wanted[:1]
    texts = ["", ""]
    for chunk in client.completions.create(prompt=[PROMPT, "The list"], stream=True, **requested):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_before_the_text(client: OpenAI, llm: LLM, stream: bool) -> None:
    wanted = PROMPT + offline(llm, PROMPT, 5).outputs[0].text
    requested = dict[str, Any](model=MODEL, prompt=PROMPT, max_tokens=5, temperature=0, echo=True, stream=stream)
    answer = client.completions.create(**requested)
    chunks = answer if stream else [answer]
    assert "".join(chunk.choices[0].text for chunk in chunks) == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_cuts_where_it_begins(client: OpenAI, llm: LLM, stream: bool) -> None:
    text = offline(llm, PROMPT, 30).outputs[0].text
    stop = text[len(text) // 2 :][:5]
    requested = dict[str, Any](
        model=MODEL, prompt=PROMPT, max_tokens=30, temperature=0, stop=[stop, "§"], stream=stream
    )
    answer = client.completions.create(**requested)
    choices = [chunk.choices[0] for chunk in (answer if stream else [answer])]
    assert "".join(choice.text for choice in choices) == text[: text.index(stop)]
    assert (choices[-1].finish_reason, choices[-1].stop_reason) == ("stop", stop)


def test_more_than_a_batch_at_once_each_gets_what_it_gets_alone(client: OpenAI, llm: LLM) -> None:
    prompts = [f"def foo{number}(x):" for number in range(5)]
    wanted = [offline(llm, prompt, 20).outputs[0].text for prompt in prompts]

    def complete(prompt: str) -> str:
        requested = dict[str, Any](model=MODEL, prompt=prompt, max_tokens=20, temperature=0, extra_body=IGNORE_EOS)
        return "".join(chunk.choices[0].text for chunk in client.completions.create(**requested, stream=True))

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(complete, prompts)) == wanted


def test_models_health_version_and_what_is_not_there(server: Server, client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).to_dict()["max_model_len"] == 512
    with pytest.raises(NotFoundError, match="does not exist"):
        client.models.retrieve("gpt-5")
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/version").json()["version"]


def test_metrics_count(server: Server) -> None:
    before = server.metrics()
    assert post(server, {"prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True}).is_success
    eventually(server.is_empty)
    after = server.metrics()
    grown = {name: after[name] - before[name] for name in after if after[name] != before.get(name)}
    assert grown['spyre_cb_requests_finished_total{finish_reason="length"}'] == 1
    assert (grown["spyre_cb_prompt_tokens_total"], grown["spyre_cb_generation_tokens_total"]) == (3, 4)
    assert grown["spyre_cb_time_to_first_token_seconds_count"] == 1
    assert grown["spyre_cb_inter_token_latency_seconds_count"] == 3
    assert after["spyre_cb_blocks_available"] == 35
    assert after["spyre_cb_engine_up"] == 1


LONG = {"prompt": PROMPT, "max_tokens": 448, "temperature": 0, "ignore_eos": True}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("half", [False, True], ids=["closed", "half closed"])
def test_who_goes_away_takes_the_request_along(server: Server, stream: bool, half: bool) -> None:
    aborted = 'spyre_cb_requests_finished_total{finish_reason="abort"}'
    before = server.metrics()[aborted]
    with posted_by_hand(server, {**LONG, "stream": stream}) as connection:
        eventually(server.running)
        if half:
            connection.shutdown(socket.SHUT_WR)
            eventually(server.is_empty)
    eventually(server.is_empty)
    assert server.metrics()[aborted] == before + 1


def test_who_goes_away_with_a_batch_and_a_queue_takes_all_of_it_along(server: Server) -> None:
    with posted_by_hand(server, {**LONG, "temperature": 1, "n": 9}):
        eventually(lambda: server.metrics()["spyre_cb_requests_waiting"] > 0)
    eventually(server.is_empty)


def test_a_slow_client_delays_no_other_and_misses_nothing(server: Server, llm: LLM) -> None:
    wanted = offline(llm, PROMPT, 448).outputs[0].text
    with posted_by_hand(server, {**LONG, "logprobs": 3, "stream": True}) as slow:
        eventually(server.running)
        assert post(server, {"prompt": PROMPT, "max_tokens": 3}).is_success
        eventually(lambda: not server.running())
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    events = [line for line in answer.decode().splitlines() if line.startswith("data: {")]
    assert "".join(json.loads(event[6:])["choices"][0]["text"] for event in events) == wanted
    assert "data: [DONE]" in answer.decode()


def test_what_never_sends_its_body_is_no_matter(server: Server) -> None:
    with socket.create_connection(server.address, SECONDS) as silent, socket.create_connection(server.address):
        silent.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert post(server, {"prompt": PROMPT, "max_tokens": 3}).is_success


def test_what_is_no_http_is_answered_400(server: Server) -> None:
    with socket.create_connection(server.address, SECONDS) as connection:
        connection.sendall(b"\0\0\0 what?\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
