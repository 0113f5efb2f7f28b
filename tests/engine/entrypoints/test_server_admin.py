"""Tests of ``POST /admin/limits``: who may send it, which limits change, and which requests are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest

from engine.config import EngineConfig
from engine.entrypoints.server.arguments import ADMIN_TOKEN, parse
from tests.helpers.server_process import SECONDS, Server, eventually, post, started

ODD = "tests.helpers.odd_server"
TOKEN = "token of the harness"
PATH = "/admin/limits"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started("--max-queue", "5", module=ODD, ODD_PACE="0.01", **{ADMIN_TOKEN: TOKEN}) as ready:
        yield ready


@pytest.fixture(autouse=True)
def server_is_left_as_it_was_started(server: Server) -> Iterator[None]:
    yield
    eventually(lambda: set_limits(server).status_code == 200)


def set_limits(server: Server, token: str | None = TOKEN, **wanted: Any) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}{PATH}", json=wanted, headers=headers, timeout=SECONDS)


def complete(server: Server, **more: Any) -> httpx2.Response:
    return post(server, {"prompt": [5, 6], "max_tokens": 2, **more})


@contextmanager
def busy(server: Server) -> Iterator[None]:
    body = {"prompt": [5, 6], "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=SECONDS) as answer:
        lines = answer.iter_lines()  # keeps the connection open
        next(lines)
        yield


def without_its_path(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text.replace(PATH, "/no/such/path")


@pytest.mark.parametrize("token", [None, "token", TOKEN + "s"])
def test_without_the_token_there_is_no_such_path(server: Server, token: str | None) -> None:
    nothing = httpx.post(f"{server.url}/no/such/path", json={})
    assert nothing.status_code == 404
    assert without_its_path(set_limits(server, token, max_model_len=64)) == without_its_path(nothing)
    assert PATH not in httpx.get(f"{server.url}/openapi.json").text
    assert httpx.get(f"{server.url}{PATH}", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 404
    assert context_of(server) == 512


def test_a_server_that_was_started_without_a_token_has_no_such_path() -> None:
    with started(module=ODD) as server:
        for token in (None, TOKEN):
            assert set_limits(server, token, max_model_len=64).status_code == 404
        assert context_of(server) == 512


def context_of(server: Server) -> int:
    return int(httpx.get(f"{server.url}/v1/models").json()["data"][0]["max_model_len"])


def test_the_token_is_taken_out_of_the_environment() -> None:
    environ = {ADMIN_TOKEN: TOKEN}
    assert parse([], environ).admin_token == TOKEN
    assert environ == {}
    assert parse([], {}).admin_token is None


def test_limits_are_those_of_a_server_that_was_started_with_them(server: Server) -> None:
    answer = set_limits(server, max_model_len=256, max_num_seqs=2)
    built = EngineConfig(max_model_len=256, max_num_seqs=2)
    assert answer.json() == {
        "max_model_len": 256,
        "max_num_seqs": 2,
        "available_blocks": built.available_blocks,
        "max_batch_tkv_limit": built.batch_tkv_limit,
        "max_queue": 5,
        "max_body_bytes": 2**20,
    }
    assert context_of(server) == 256
    assert server.metrics()["spyre_cb_blocks_available"] == built.available_blocks
    refused = complete(server, prompt=[5] * 300).json()["error"]["message"]
    assert refused.startswith("This model's maximum context length is 256 tokens")
    refused = complete(server, prompt=[5] * 70, max_tokens=129).json()["error"]["message"]
    assert "maximum number of output tokens is 129 tokens, but max model context length is 256." in refused
    assert set_limits(server, max_num_seqs=1, num_blocks=9, max_batch_tkv_limit=300).json()["available_blocks"] == 8
    assert set_limits(server).json()["available_blocks"] == EngineConfig().available_blocks


def test_options_are_those_of_the_last_call(server: Server) -> None:
    assert (
        set_limits(server, max_queue=0, max_num_seqs=1, api_key="open sesame", max_body_bytes=2000).status_code == 200
    )
    assert complete(server).status_code == 401
    key = {"Authorization": "Bearer open sesame"}
    with httpx.Client(base_url=server.url, headers=key, timeout=SECONDS) as client:
        body = {"prompt": [5, 6], "max_tokens": 400, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            full = client.post("/v1/completions", json={"prompt": [5], "max_tokens": 1})
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert client.post("/v1/completions", content=b"x" * 2001).status_code == 413
    eventually(lambda: set_limits(server).status_code == 200)
    assert complete(server).status_code == 200
    assert complete(server, prompt=[5] * 400, max_tokens=1, user="x" * 3000).status_code == 200


def test_it_is_refused_while_anything_is_under_way_and_changes_nothing(server: Server) -> None:
    with busy(server):
        refused = set_limits(server, max_model_len=64, api_key="open sesame")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "engine_busy")
        assert "the engine is not idle: " in refused.json()["error"]["message"]
        assert context_of(server) == 512
        assert server.running()


def test_what_cannot_be_is_refused_as_such_on_a_busy_server_too(server: Server) -> None:
    with busy(server):
        for context in (100, 1024):
            refused = set_limits(server, max_model_len=context)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "impossible_limits")


def test_metrics_restart_at_zero(server: Server) -> None:
    assert set_limits(server).status_code == 200
    new = server.metrics()
    assert complete(server, max_tokens=7).is_success
    eventually(server.is_empty)
    assert server.metrics()["spyre_cb_generation_tokens_total"] == 7
    assert set_limits(server).status_code == 200
    assert server.metrics() == new
    assert {name for name, value in new.items() if value} == {"spyre_cb_blocks_available", "spyre_cb_engine_up"}
    assert complete(server, max_tokens=5).is_success
    eventually(server.is_empty)
    assert server.metrics()["spyre_cb_generation_tokens_total"] == 5


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"max_model_len": 100}, "max_model_len 100 is not a multiple of 64"),
        ({"max_model_len": 1024}, "max_model_len 1024 exceeds the 512 that the engine was built with"),
        ({"max_num_seqs": 1, "num_blocks": 3}, "one sequence of max_model_len 512 needs 8"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"drain_seconds": 3}, "unrecognized request argument: drain_seconds"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(server: Server, wanted: dict[str, Any], says: str) -> None:
    assert set_limits(server, max_model_len=128).status_code == 200
    refused = set_limits(server, **wanted)
    assert refused.status_code == 400
    assert says in refused.json()["error"]["message"]
    assert context_of(server) == 128


def test_a_body_that_is_no_json_is_refused(server: Server) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{server.url}{PATH}", content=b"{", headers=headers).status_code == 400
    assert httpx.post(f"{server.url}{PATH}", content=b" " * 2**17, headers=headers).status_code == 413
