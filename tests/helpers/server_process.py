"""Start server processes for tests on a free port, and send requests to them. Each server is ended after its test."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import httpx2

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from openai import APIError

SECONDS = 60
"""The timeout of every wait, in seconds."""


class Server(NamedTuple):
    """A server process that accepts requests at ``url``."""

    url: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the server by name. The name of a metric with labels is ``name{label="value"}``."""
        lines = httpx.get(f"{self.url}/metrics", timeout=SECONDS).text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}

    def is_empty(self) -> bool:
        """Return whether the server has no unfinished requests and no allocated blocks."""
        held = ("requests_unfinished", "requests_waiting", "requests_running", "tkv", "blocks_used", "blocks_reserved")
        metrics = self.metrics()
        return not any(metrics[f"spyre_cb_{name}"] for name in held)

    def running(self) -> bool:
        return self.metrics()["spyre_cb_requests_running"] > 0

    def wait(self) -> int:
        """Wait until the process ends, and return its exit status."""
        return self.process.wait(SECONDS)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until ``holds()`` is true. Raises AssertionError if it is not true after SECONDS."""
    give_up = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < give_up, f"the condition is still false after {SECONDS} s"
        time.sleep(0.01)


def posted_by_hand(server: Server, body: object) -> socket.socket:
    """Send a completion request through a socket, and return the socket without reading the response.

    The socket has a small receive buffer, so that a server that streams must wait until the response is read.
    """
    content = json.dumps(body).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(SECONDS)
    connection.connect(server.address)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + content)
    return connection


def command(*arguments: str, module: str = "engine.entrypoints.server") -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of this process without the variables that affect a server, and with those in ``more``."""
    names = ("SPYRE_CB_API_KEY", "VLLM_SPYRE_DYNAMO_BACKEND", "VLLM_DT_MAX_BATCH_TKV_LIMIT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


@contextmanager
def started(*arguments: str, module: str = "engine.entrypoints.server", **environ: str) -> Iterator[Server]:
    """Start a server on a free port and wait until it is ready. Kill the server at the end of the ``with`` block."""
    process = subprocess.Popen(
        command("--port", "0", *arguments, module=module),
        cwd=ROOT,
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # returns at the latest when the process ends
        ready = re.fullmatch(r"ready: (http://\S+)\n", line)
        assert ready, f"no server: {line!r} {process.stderr.read() if process.stderr else ''}"
        yield Server(ready[1], process)
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def error_of(error: "APIError") -> dict[str, Any]:
    """Return the error object of the OpenAI API from the exception that the client raised for a refused request."""
    assert isinstance(error.body, dict)
    return error.body


def post(server: Server, body: object, path: str = "/v1/completions", key: str = "none") -> httpx2.Response:
    """Send ``body`` as JSON with the official client. Return the response, also if its status is an error."""
    from openai import APIStatusError, OpenAI

    with OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=SECONDS) as client:
        try:
            return client.post(path.removeprefix("/v1"), body=body, cast_to=httpx2.Response)
        except APIStatusError as error:
            return error.response
