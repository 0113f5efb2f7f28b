"""Tests of requests that the server refuses, and of unusual requests that it accepts.

Each refusal has a status, a message and the name of the wrong field.
"""

from typing import Any

import httpx
import pytest

from tests.helpers.server_process import SECONDS, Server, post

pytestmark = pytest.mark.usefixtures("server_is_left_empty")

MODEL = "tiny-granite"
PROMPT = "def foo(x):"
IGNORE_EOS = {"ignore_eos": True, "return_token_ids": True}


BAD_BODIES = {
    "no JSON": (b'{"prompt": ', 400, "the body is not valid JSON: EOF", None),
    "a raw NUL": (b'{"prompt": "a\0b"}', 400, "the body is not valid JSON: control character", None),
    "not UTF-8": (b'{"prompt": "a\xff"}', 400, "the body is not valid JSON: invalid unicode", None),
    "half a character": (rb'{"prompt": "\ud800"}', 400, "the body is not valid JSON", None),
    "endless nesting": (b"[" * 100_000, 400, "the body is not valid JSON: recursion limit", None),
    "an endless number": (b'{"prompt": "a", "seed": ' + b"9" * 9999 + b"}", 400, "number out of range", None),
    "no object": (b"[]", 400, "the body must be a JSON object", None),
    "nothing": (b"", 400, "the body must be a JSON object", None),
    "no prompt": ({}, 400, "prompt: Field required", "prompt"),
    "empty prompt": ({"prompt": ""}, 400, "the prompt is empty", "prompt"),
    "no prompts": ({"prompt": []}, 400, "the prompt is empty", "prompt"),
    "no tokens": ({"prompt": [[1], []]}, 400, "the prompt is empty", "prompt"),
    "prompt of a wrong type": ({"prompt": 5}, 400, "must be a string, a list of strings, a list of token", "prompt"),
    "mixed prompt": ({"prompt": [1, "a"]}, 400, "must be a string, a list of strings, a list of token", "prompt"),
    "true is no token": ({"prompt": [True]}, 400, "must be a string, a list of strings, a list of token", "prompt"),
    "unknown token": ({"prompt": [2048]}, 400, "token id 2048 is outside the vocabulary of 2048", "prompt"),
    "negative token": ({"prompt": [-1]}, 400, "token id -1 is outside", "prompt"),
    "huge token": ({"prompt": [10**30]}, 400, "is outside the vocabulary", "prompt"),
    "unknown field": ({"prompt": "a", "tempereture": 0}, 400, "unrecognized request argument", "tempereture"),
    "unsupported field": ({"prompt": "a", "best_of": 2}, 400, "is not supported", "best_of"),
    "penalty": ({"prompt": "a", "presence_penalty": 3}, 400, "must be between -2 and 2, not 3", "presence_penalty"),
    "bias": ({"prompt": "a", "logit_bias": {"x": 1}}, 400, "an object that maps token ids to numbers", "logit_bias"),
    "bias of a token in two ways": (
        {"prompt": "a", "logit_bias": {"1": 1, "01": 2}},
        400,
        "an object that maps token ids to numbers",
        "logit_bias",
    ),
    "bias of a huge token": (
        {"prompt": "a", "logit_bias": {"9" * 5000: 1}},
        400,
        "an object that maps token ids to numbers",
        "logit_bias",
    ),
    "unknown model": ({"prompt": "a", "model": "gpt-5"}, 404, "'gpt-5' does not exist here", "model"),
    "text for a number": ({"prompt": "a", "max_tokens": "5"}, 400, "should be a valid integer", "max_tokens"),
    "a fraction": ({"prompt": "a", "max_tokens": 1.5}, 400, "should be a valid integer", "max_tokens"),
    "no tokens asked for": ({"prompt": "a", "max_tokens": 0}, 400, "at least 1, not 0", "max_tokens"),
    "negative": ({"prompt": "a", "max_tokens": -1}, 400, "at least 1, not -1", "max_tokens"),
    "huge": ({"prompt": "a", "max_tokens": 10**30}, 400, "but max model context length is 512.", "max_tokens"),
    "an unknown token to stop at": (
        {"prompt": "a", "stop_token_ids": [999_999]},
        400,
        "stop token id 999999 is outside the vocabulary of 2048",
        "stop_token_ids",
    ),
    "an unknown token in a bias": (
        {"prompt": "a", "logit_bias": {"2048": 1}},
        400,
        "token id 2048 is outside",
        "logit_bias",
    ),
    "an unknown token allowed": (
        {"prompt": "a", "allowed_token_ids": [1, -1]},
        400,
        "allowed token id -1 is outside",
        "allowed_token_ids",
    ),
    "best_of true": ({"prompt": "a", "best_of": True}, 400, "best_of is not supported", "best_of"),
    "store 0": ({"prompt": "a", "store": 0}, 400, "store is not supported", "store"),
    "a penalty of false": ({"prompt": "a", "frequency_penalty": False}, 400, "a valid number", "frequency_penalty"),
    "a temperature of true": ({"prompt": "a", "temperature": True}, 400, "a valid number", "temperature"),
    "a seed without room for two": (
        {"prompt": "a", "seed": 2**63 - 1, "n": 2},
        400,
        "seed must be at most 9223372036854775806 with n 2, not 9223372036854775807",
        "seed",
    ),
    "NaN": (b'{"prompt": "a", "temperature": NaN}', 400, "should be a finite number", "temperature"),
    "infinite": (b'{"prompt": "a", "temperature": 1e999}', 400, "should be a finite number", "temperature"),
    "cold": ({"prompt": "a", "temperature": -1}, 400, "temperature must be 0 or more", "temperature"),
    "top_p": ({"prompt": "a", "top_p": 2}, 400, "top_p must be above 0", "top_p"),
    "seed": ({"prompt": "a", "seed": 2**64}, 400, "seed must be a 64-bit integer", "seed"),
    "logprobs": ({"prompt": "a", "logprobs": 21}, 400, "less than or equal to 20", "logprobs"),
    "n": ({"prompt": "a", "n": 0}, 400, "greater than or equal to 1", "n"),
    "n greedy": ({"prompt": "a", "n": 2, "temperature": 0}, 400, "n must be 1 with temperature 0", "n"),
    "more than fits": (
        {"prompt": ["a"] * 300},
        400,
        "are 300 sequences, but this server accepts at most 260",
        "prompt",
    ),
    "stop of a wrong type": ({"prompt": "a", "stop": [1]}, 400, "must be a string or a list of strings", "stop"),
    "stop at nothing": ({"prompt": "a", "stop": ""}, 400, "stop strings must have at least one character", "stop"),
    "many stops": ({"prompt": "a", "stop": ["x"] * 65}, 400, "at most 64 stop strings", "stop"),
    "options of no stream": ({"prompt": "a", "stream_options": {}}, 400, "if stream is true", "stream_options"),
    "a long prompt": ({"prompt": [5] * 512}, 400, "This model's maximum context length is 512 tokens.", "prompt"),
    "a very long prompt": ({"prompt": "hello " * 100_000}, 400, "maximum context length is 512 tokens.", "prompt"),
    "no room for the budget": (
        {"prompt": [5] * 65, "max_tokens": 385},
        400,
        "Could not add request: prompt length is 65 tokens, which gets padded to 128 tokens",
        "max_tokens",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("body", "status", "says", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_what_is_refused(server: Server, body: Any, status: int, says: str, param: str | None, stream: bool) -> None:
    if isinstance(body, dict):
        body = {**body, **({"stream": True} if stream and "stream_options" not in body else {})}
        answer: Any = post(server, body)
    else:
        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{server.url}/v1/completions", content=body, headers=headers, timeout=SECONDS)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert says in error["message"]
    assert answer.headers["content-type"] == "application/json"


BAD_CHATS = {
    "no messages": ({"messages": []}, "at least 1 item", "messages"),
    "messages missing": ({}, "Field required", "messages"),
    "unknown role": ({"messages": [{"role": "boss", "content": "a"}]}, "should be 'system'", "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "Field required", "messages[0].content"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        "must be a string, or a list of parts",
        "messages[0].content",
    ),
    "no tokens asked for": (
        {"messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 0},
        "max_completion_tokens must be at least 1, not 0",
        "max_completion_tokens",
    ),
    "more tokens than fit": (
        {"messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 512},
        "but max model context length is 512.",
        "max_completion_tokens",
    ),
    "tools": ({"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, "is not supported", "tools"),
    "top_logprobs alone": (
        {"messages": [{"role": "user", "content": "a"}], "top_logprobs": 1},
        "only allowed if logprobs is true",
        "top_logprobs",
    ),
    "a long conversation": (
        {"messages": [{"role": "user", "content": "hello " * 600}]},
        "This model's maximum context length is 512 tokens.",
        "messages",
    ),
}


@pytest.mark.parametrize(("body", "says", "param"), BAD_CHATS.values(), ids=BAD_CHATS)
def test_what_is_refused_of_a_chat(server: Server, body: dict[str, Any], says: str, param: str) -> None:
    answer = post(server, body, "/v1/chat/completions")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert says in error["message"]


LONG_NAME = "x" * 5000


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a", LONG_NAME: 1},
        {"prompt": "a", "stream": True, "stream_options": {LONG_NAME: 1}},
        {"prompt": "a", "model": LONG_NAME},
        {"prompt": "a", "stop": ["", LONG_NAME[:1000]]},
        {"prompt": "a", "logit_bias": {"9" * 4000: 1}},
    ],
)
def test_a_long_name_is_cut(server: Server, body: dict[str, object]) -> None:
    answer = post(server, body)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 1000, answer.text[:2000]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/" + "x" * 5000, 404, "x…: this path does not exist"),
        ("GET", "/v1/completions", 405, "this method is not allowed here"),
        ("DELETE", "/health", 405, "this method is not allowed here"),
        ("GET", "/nothing", 404, "this path does not exist"),
        ("POST", "/v1/embeddings", 404, "this path does not exist"),
    ],
)
def test_what_is_not_there(server: Server, method: str, path: str, status: int, says: str) -> None:
    answer = httpx.request(method, f"{server.url}{path}", timeout=SECONDS)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_what_is_odd_and_right(server: Server) -> None:
    for body in (
        {"prompt": "a\0b", "max_tokens": 1},
        {"prompt": "a", "max_tokens": 1, "top_k": 10**30, "seed": -(2**63)},
        {"prompt": "a", "max_tokens": 1, "user": "x", "metadata": {"a": 1}, "logit_bias": {}, "best_of": 1},
    ):
        assert post(server, body).status_code == 200, body


@pytest.mark.parametrize("content_type", [None, b"text/plain", b"application/\xffjson", b"application/jsonx"])
def test_a_header_that_is_missing_or_wrong_is_named(server: Server, content_type: bytes | None) -> None:
    headers = [] if content_type is None else [(b"Content-Type", content_type)]
    url = f"{server.url}/v1/completions"
    answer = httpx.post(url, content=b'{"prompt": "a"}', headers=headers, timeout=SECONDS)
    assert answer.status_code == 400
    assert "Content-Type must be application/json" in answer.json()["error"]["message"]
