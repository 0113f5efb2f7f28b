"""Tests of the server's API keys, size limits, full queue, shutdown, command-line errors, and engine failures."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from openai import APIError, OpenAI
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from checkpoints import resolve
from engine.entrypoints.server.__main__ import main
from tests.helpers.budget import examples
from tests.helpers.narrow import present
from tests.helpers.server_process import (
    SECONDS,
    Server,
    command,
    environment,
    eventually,
    post,
    posted_by_hand,
    started,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ODD = "tests.helpers.odd_server"
LONG = {"prompt": [5, 6], "max_tokens": 400, "stream": True}
PACE = "0.01"
KEY = "open sesame"


@contextmanager
def stream(server: Server, **more: object) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """Start a streamed completion and read its first line. Yield the response and an iterator of the other lines."""
    with httpx.stream("POST", f"{server.url}/v1/completions", json={**LONG, **more}, timeout=SECONDS) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        yield answer, lines


def complete(server: Server, **more: object) -> httpx2.Response:
    body = {**LONG, "stream": False, "max_tokens": 2, **more}
    return post(server, body)


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """Start a slow server with small limits. Two running and one waiting request fill it."""
    arguments = ("--max-num-seqs", "2", "--max-queue", "1", "--max-body-bytes", "2000")
    with started(*arguments, "--api-key", "open sesame", module=ODD, ODD_PACE=PACE) as ready:
        yield ready


def with_key(server: Server, content: bytes, **headers: str) -> httpx.Response:
    """Send a completion request with the API key and with ``content`` as its body, which may be invalid JSON."""
    sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    return httpx.post(f"{server.url}/v1/completions", content=content, headers=sent, timeout=SECONDS)


@pytest.mark.parametrize("output", [None, "Bearer", "Bearer wrong", "Basic open sesame", "open sesame", "Bearer é"])
def test_without_the_key_nothing_is_answered(strict: Server, output: str | None) -> None:
    headers: dict[bytes, bytes] = {} if output is None else {b"Authorization": output.encode("latin-1")}
    for path in ("/v1/models", "/v1/completions", "/v1/nothing"):
        answer = httpx.post(f"{strict.url}{path}", headers=headers, content=b"x" * 9999)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_with_the_key_everything_is_and_health_needs_none(strict: Server) -> None:
    with OpenAI(base_url=f"{strict.url}/v1", api_key="open sesame", max_retries=0) as client:
        assert len(list(client.models.list())) == 1
    assert post(strict, {"prompt": "a", "max_tokens": 1}, key=KEY).is_success
    assert httpx.get(f"{strict.url}/health").is_success


def test_a_body_too_large_is_refused_by_its_header(strict: Server) -> None:
    with socket.create_connection(strict.address, SECONDS) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer open sesame\r\nContent-Length: 2001"
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_too_large_is_refused_while_it_is_read(strict: Server) -> None:
    with socket.create_connection(strict.address, SECONDS) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer open sesame"
        connection.sendall(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"7d1\r\n" + b"x" * 2001 + b"\r\n")  # without the final chunk
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_just_small_enough_is_read(strict: Server) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 1}).encode().ljust(2000)
    assert with_key(strict, body).status_code == 200
    assert with_key(strict, body + b" ").json()["error"]["code"] == "body_too_large"


def test_a_full_queue_says_so_and_when_to_come_back(strict: Server) -> None:
    key = {"Authorization": "Bearer open sesame"}
    waiting = [
        httpx.Client(timeout=SECONDS).stream("POST", f"{strict.url}/v1/completions", json=LONG, headers=key)
        for _ in range(3)
    ]
    for each in waiting:
        assert each.__enter__().is_success
    refused = post(strict, LONG, key=KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    for each in waiting:
        each.__exit__(None, None, None)
    eventually(strict.is_empty)
    assert post(strict, {"prompt": "a", "max_tokens": 1}, key=KEY).is_success


def test_a_signal_in_mid_stream_lets_it_end_and_takes_nothing_new() -> None:
    with started("--drain-seconds", "50", module=ODD, ODD_PACE=PACE) as server:
        with socket.create_connection(server.address, SECONDS) as late:
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
            late.sendall(f"{head}\r\nContent-Length: 14\r\n\r\n".encode())
            with stream(server, max_tokens=100) as (_, lines):
                server.process.send_signal(signal.SIGTERM)
                assert present(server.process.stderr).readline().startswith("shutting down")
                late.sendall(b'{"prompt":"a"}')
                refused = whole_answer(late)
                rest = [line for line in lines if line]
        assert refused.startswith("HTTP/1.1 503")
        assert json.loads(refused.split("\r\n\r\n")[1])["error"]["code"] == "shutting_down"
        assert "retry-after: 1" in refused.lower()
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert server.wait() == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(server.address, 1)


def test_requests_that_do_not_end_in_time_are_aborted_with_an_error() -> None:
    with started("--drain-seconds", "0.1", module=ODD, ODD_PACE="0.05") as server:
        with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=SECONDS) as client:
            chunks = client.completions.create(model="tiny-granite", prompt="a", max_tokens=400, stream=True)
            next(chunks)
            server.process.send_signal(signal.SIGINT)
            with pytest.raises(APIError, match="the server is shutting down"):
                list(chunks)
        assert server.wait() == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with started(module=ODD, ODD_PACE="0.05") as server, stream(server) as (_, lines):
        server.process.send_signal(signal.SIGTERM)
        assert present(server.process.stderr).readline().startswith("shutting down")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        with pytest.raises(httpx.TransportError):
            list(lines)


def test_everybody_sees_the_engine_die(tmp_path: Path) -> None:
    fire = tmp_path / "fire"
    with started(module=ODD, ODD_PACE=PACE, ODD_CRASH=str(fire)) as server:
        with stream(server) as (_, lines), posted_by_hand(server, {**LONG, "stream": False}) as whole:
            eventually(lambda: server.metrics()["spyre_cb_requests_running"] == 2)
            fire.touch()
            rest = [line for line in lines if line]
            answer = whole_answer(whole)
        assert "the card is on fire" in json.loads(rest[-1].removeprefix("data: "))["error"]["message"]
        assert "data: [DONE]" not in rest
        assert answer.startswith("HTTP/1.1 500")
        assert json.loads(answer.split("\r\n\r\n")[1])["error"]["code"] == "engine_dead"
        for answered in (httpx.get(f"{server.url}/health"), complete(server)):
            assert answered.status_code == 503
            assert "the card is on fire" in answered.json()["error"]["message"]
        assert server.metrics()["spyre_cb_engine_up"] == 0
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 1


def whole_answer(connection: socket.socket) -> str:
    """Read from a socket until a whole HTTP response with a JSON body has arrived, and return it."""
    data = b""
    while b"}}" not in data:
        received = connection.recv(4096)
        assert received
        data += received
    return data.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--port x", "argument --port: must be a number from 0 to 65535, not 'x'"),
        ("--max-model-len 100", "max_model_len 100 is not a multiple of 64"),
        ("--num-blocks 2", "but one sequence of max_model_len 512 needs 8"),
        ("--model nope", "no model is called 'nope'"),
        ("--host 8.8.8.8", "cannot listen on port 0 of 8.8.8.8: Cannot assign requested address"),
        ("--nope", "unrecognized arguments: --nope"),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence_and_status_2(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object
    try:
        status = main(["--port", "0", *arguments.split()])
    except SystemExit as exit_:
        status = exit_.code
    output = capsys.readouterr()
    assert (status, output.out) == (2, "")
    assert output.err.startswith("python -m engine.entrypoints.server: ")
    assert says in output.err
    assert output.err.count("\n") == 1


def test_a_tokenizer_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(resolve("tiny-granite").path, tmp_path / "model"))
    (folder / "tokenizer.json").write_text("{}")
    assert main(["--port", "0", "--model", str(folder)]) == 2
    output = capsys.readouterr()
    assert output.err.splitlines()[-1] == (
        f"python -m engine.entrypoints.server: {folder / 'tokenizer.json'}: the tokenizer cannot be read:"
        " KeyError: 'added_tokens'"
    )


def test_the_command_hands_its_arguments_over() -> None:
    line = command("serve", "--port", "x", module="harness")
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("spyre-cb serve: argument --port: must be a number from 0 to 65535")


def test_a_port_in_use_is_one_sentence(strict: Server, capsys: pytest.CaptureFixture[str]) -> None:
    host, port = strict.address
    line = command("--host", host, "--port", str(port))
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"python -m engine.entrypoints.server: cannot listen on port {port} of {host}: Address already in use\n"
    )


def test_help_fits_a_screen_and_has_an_example() -> None:
    line = command("serve", "--help", module="harness")
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=SECONDS, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "example: spyre-cb serve --port 0 --max-num-seqs 8"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VLLM_DT_MAX_BATCH_TKV_LIMIT", "many", "VLLM_DT_MAX_BATCH_TKV_LIMIT must be a whole number"),
        ("VLLM_SPYRE_DYNAMO_BACKEND", "sendn", "backend 'sendn' is not known: choose from eager, inductor, sendnn"),
    ],
)
def test_the_environment_is_honoured(
    variable: str, value: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["--port", "0"]) == 2
    assert says in capsys.readouterr().err


def test_whatever_fits_the_openapi_document_is_answered_as_it_says() -> None:
    with started(module=ODD) as server:
        api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        deadline = time.monotonic() + SECONDS
        for operation in api.get_all_operations():
            assert isinstance(operation, Ok)
            check_operation(server, operation.ok().as_strategy(), deadline)
        eventually(server.is_empty)


def check_operation(server: Server, case: SearchStrategy[Case[Any]], deadline: float) -> None:
    @settings(
        max_examples=examples(5, 50),
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case)
    def check(example: Case[Any]) -> None:
        assert time.monotonic() < deadline
        answer = example.call(timeout=SECONDS)
        example.validate_response(answer, checks=CHECKS)

    check()
