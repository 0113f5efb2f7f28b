"""Tests of the driver ``openai-http``: suites against a server at a URL, and errors before the run."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.drivers.base import UnavailableError
from harness.drivers.openai_http import OpenAIHttpDriver, ServerError, find_server, parse_shape
from harness.drivers.reference import reference_unavailable
from harness.drivers.servers import ServerProcess, reference_server
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, SchedulingLimits
from tests.helpers.pytest_runs import run, write

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4)
DOORS = """\
suite: mine
kind: behaviour
parameters: {entry_point: [in-process, http]}
cases:
  - id: adds-up
    actions:
      - complete: {prompt: {text: "Return the number of"}, max_tokens: 6}
        name: whole
      - wait: {end_of: whole}
      - stream: {prompt: {text: "Return the number of"}, max_tokens: 6}
        expect: {same_as: whole, text: reference, token_counts: [6]}
  - id: wants-another-context
    limits: {max_model_len: 128}
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 6}
        expect: {token_counts: [6]}
  - id: wants-a-wrong-thing
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 6}
        expect: {token_counts: [7]}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    process = reference_server(SETUP, SchedulingLimits(512, 4), ServerOptions())
    yield process
    process.end()


def test_a_running_server_is_checked_by_what_clients_see(server: ServerProcess, tmp_path: Path) -> None:
    write(tmp_path, mine=DOORS)
    done = run(tmp_path, "mine.yaml", "-v", "-rs", "--cb-driver", "openai-http", "--cb-server-url", server.url)
    assert f"engine under test: server at {server.url}, model tiny-granite" in done.stdout
    assert "adds-up[tiny-granite-eager-http] PASSED" in done.stdout
    assert "adds-up[tiny-granite-eager] SKIPPED" in done.stdout
    assert "needs offline-api, which the driver openai-http does not offer" in done.stdout
    assert "the case needs max_model_len 128, but the server has 512" in done.stdout
    assert "action 0 (complete): token counts [6], expected [7]" in done.stdout
    assert "1 failed, 1 passed, 4 skipped" in done.stdout
    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cb-driver", "openai-http"], "--cb-driver openai-http: give either --cb-server-url URL or --cb-serve"),
        (
            ["--cb-driver", "openai-http", "--cb-server-url", "http://127.0.0.1:9"],
            "--cb-server-url: no server answers at http://127.0.0.1:9: ",
        ),
        (
            ["--cb-driver", "openai-http", "--cb-server-url", "http://127.0.0.1:9", "--cb-server-shape", "max_seqs=4"],
            "--cb-server-shape: 'max_seqs=4' is not NAME=VALUE with one of the names max_model_len",
        ),
        (["--cb-serve", "reference"], "--cb-serve is only allowed with --cb-driver openai-http"),
        (
            ["--cb-driver", "openai-http", "--cb-serve", "reference", "--cb-simulate"],
            "--cb-serve cannot be combined with --cb-simulate",
        ),
        (
            ["--cb-driver", "openai-http", "--cb-simulate"],
            "--cb-driver openai-http cannot be combined with --cb-simulate: it needs a server, which runs a model",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence_before_anything_runs(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(tmp_path, mine=DOORS)
    done = run(tmp_path, "mine.yaml", *arguments)
    assert done.returncode == 4
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://[zz]:80", "http://", "http://h:99999", "http://h:x", "http://a b", "ftp://h", "", "h:1"],
)
def test_what_is_not_a_url_is_refused(url: str) -> None:
    message = f"{url!r} is not a URL: it must be http://HOST:PORT or https://HOST:PORT"
    with pytest.raises(ServerError, match=f"^{re.escape(message)}$"):
        find_server(url, {})


class Strange(BaseHTTPRequestHandler):
    """A request handler that responds like a server that is not compatible with the OpenAI API."""

    def do_GET(self) -> None:
        body = {"/ok/v1/models": '{"data": [{"id": "m"}]}', "/odd/v1/models": '{"models": 1}'}.get(self.path)
        self.send_response(200 if body else 401)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def strange() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_models_of_a_server_are_read(strange: str) -> None:
    found = find_server(f"{strange}/ok/v1/", {"max_num_seqs": 8, "backend": "sendnn"})
    assert (found.url, found.model, found.backend) == (f"{strange}/ok", "m", "sendnn")
    assert found.limits == SchedulingLimits(None, 8)
    with pytest.raises(ServerError, match="does not answer /v1/models as an OpenAI-compatible server does"):
        find_server(f"{strange}/odd", {})
    with pytest.raises(
        ServerError,
        match="answers with HTTP status 401; give the server's API key in the environment",
    ):
        find_server(f"{strange}/locked", {})


def test_cases_that_want_another_server_are_skipped_with_what_they_want(strange: str) -> None:
    driver = OpenAIHttpDriver(find_server(f"{strange}/ok", parse_shape("max_num_seqs=4")))
    assert driver.unfit(SETUP, SchedulingLimits(max_num_seqs=4), ServerOptions()) is None
    assert "needs max_num_seqs 2, but the server has 4" in str(
        driver.unfit(SETUP, SchedulingLimits(max_num_seqs=2), ServerOptions())
    )
    assert "the server does not report its value" in str(
        driver.unfit(SETUP, SchedulingLimits(max_model_len=64), ServerOptions())
    )
    assert "the case needs a server with api_key" in str(
        driver.unfit(SETUP, SchedulingLimits(), ServerOptions(api_key="x"))
    )
    assert "backend sendnn, but the server has eager" in str(driver.unavailable(EngineSetup("m", "sendnn", 1, 512, 4)))


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(
        UnavailableError, match=r"the server did not start: .*max_model_len 100 is not a multiple of 64"
    ):
        reference_server(SETUP, SchedulingLimits(100, 4), ServerOptions())


def test_a_server_is_killed_and_started_again_and_ended(server: ServerProcess) -> None:
    own = reference_server(SETUP, SchedulingLimits(128, 2), ServerOptions())
    first, pid = own.url, own.process.pid
    own.restart("kill")
    assert own.process.pid != pid
    assert find_server(own.url, {}).limits.max_model_len == 128
    own.end()
    own.end()
    assert own.process.poll() is not None
    with pytest.raises(ServerError):
        find_server(first, {})


def test_a_forked_child_leaves_no_server_behind(tmp_path: Path) -> None:
    write(tmp_path, mine=DOORS.split("  - id: wants-another")[0])
    done = run(tmp_path, "mine.yaml", "--forked", "--cb-results", "r.jsonl", SPYRE_CB_CACHE=str(tmp_path / "cache"))
    assert "2 passed" in done.stdout, done.stdout
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {record["outcome"] for record in records[1:-1]} == {"passed"}
    marker = f"SPYRE_CB_CACHE={tmp_path / 'cache'}"
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if _has(path, marker)]
    assert left == []


def _has(environ: Path, marker: str) -> bool:
    try:
        return marker.encode() in environ.read_bytes()
    except OSError:
        return False


def test_an_engine_of_more_processes_than_cores_is_skipped_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert reference_unavailable(replace(SETUP, tensor_parallel_size=2)) is None
    assert reference_unavailable(replace(SETUP, tensor_parallel_size=4)) == (
        "tensor_parallel_size 4 needs as many cores, but there are 2"
    )
