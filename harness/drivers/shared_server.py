"""A server of the reference engine for many cases, with the limits of each in turn, checked to be clean before each.

The answer of its administrative call is not trusted: the limits that clients see, and all metrics in ``/metrics``, must
equal those of a server that was started for this case.
"""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from harness.drivers.base import UnavailableError
from harness.drivers.client import Client
from harness.drivers.http_client import HttpClient
from harness.drivers.server_pool import DirtyServerError
from harness.drivers.servers import ServerProcess, flags_of, robust_reference_server
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, SchedulingLimits

PATH = "/admin/limits"
ANSWER_SECONDS = 30
IDLE_SECONDS = 10.0
"""Timeout for the requests of disconnected clients of the case before to end, in seconds."""
POLL_SECONDS = 0.02
OPTIONS = ("max_queue", "api_key", "max_body_bytes")
"""Options that can be changed while the server runs."""
NOT_ZERO = {"spyre_cb_blocks_available", "spyre_cb_engine_up"}
"""Metrics that are not zero in a new server."""

Reply = tuple[int, bytes]


class SharedReferenceServer:
    """A shared server, see the module. A fork needs only its URL and token to use it."""

    def __init__(self, process: ServerProcess, setup: EngineSetup, token: str) -> None:
        self._process = process
        self._setup = setup
        self._token = token

    def client(self, limits: SchedulingLimits, options: ServerOptions) -> Client:
        """Apply limits and options, and return a client. Raises DirtyServerError and UnavailableError."""
        reported = self._effective_limits(limits, options)
        _compare(reported, limits, options)
        self._prove(reported, options.api_key)
        return HttpClient(self._process.url, self._setup.model, api_key=options.api_key)

    def end(self) -> None:
        self._process.end()

    def _effective_limits(self, limits: SchedulingLimits, options: ServerOptions) -> Mapping[str, Any]:
        """Send these limits until the engine is idle, and return the limits that the server reports."""
        wanted = flags_of(self._setup, limits) | {name: getattr(options, name) for name in OPTIONS}
        body = json.dumps({name: value for name, value in wanted.items() if value is not None}).encode()
        give_up = time.monotonic() + IDLE_SECONDS
        while True:
            status, answer = self._send("POST", PATH, self._token, body)
            if status != http.client.CONFLICT or time.monotonic() > give_up:
                break
            time.sleep(POLL_SECONDS)
        if status == http.client.OK:
            return _object(answer)
        message = _object(answer).get("error", {}).get("message", "")
        if status == http.client.BAD_REQUEST:
            raise UnavailableError(f"no server can have these limits: {message}")
        raise DirtyServerError(message or f"{PATH} is answered with {status}")

    def _prove(self, reported: Mapping[str, Any], api_key: str | None) -> None:
        """Check that clients see what they would see of a new server. Raises DirtyServerError."""
        status, answer = self._send("GET", "/v1/models", api_key)
        if status != http.client.OK:
            raise DirtyServerError(f"with the key of this case /v1/models is answered with {status}")
        if api_key is not None and self._send("GET", "/v1/models", None)[0] != http.client.UNAUTHORIZED:
            raise DirtyServerError("it has an api_key, but answers without one")
        context = _object(answer)["data"][0]["max_model_len"]
        if context != reported["max_model_len"]:
            raise DirtyServerError(f"it was given max_model_len {reported['max_model_len']} and shows {context}")
        _, text = self._send("GET", "/metrics", None)
        metrics = _metrics(text.decode())
        if metrics.get("spyre_cb_blocks_available") != reported["available_blocks"]:
            shown = metrics.get("spyre_cb_blocks_available")
            raise DirtyServerError(f"it has available_blocks {reported['available_blocks']} and counts {shown}")
        if metrics.get("spyre_cb_engine_up") != 1:
            raise DirtyServerError("its engine is dead")
        left = [f"{name} {value:g}" for name, value in metrics.items() if value and name not in NOT_ZERO]
        if left:
            raise DirtyServerError(f"its metrics are not those of a new server: {', '.join(left[:5])}")

    def _send(self, method: str, path: str, key: str | None, body: bytes | None = None) -> Reply:
        """Send one request on a new connection, without threads. Raises DirtyServerError if there is no answer."""
        address = urlsplit(self._process.url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_SECONDS)
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise DirtyServerError(f"it does not answer: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def start_shared(setup: EngineSetup) -> SharedReferenceServer:
    """Start a server with the whole shape of ``setup``. Raises UnavailableError."""
    process, token = robust_reference_server(setup)
    return SharedReferenceServer(process, setup, token)


def _compare(reported: Mapping[str, Any], limits: SchedulingLimits, options: ServerOptions) -> None:
    """Check the reported limits against the requested ones. Raises DirtyServerError."""
    requested = asdict(limits) | {"max_queue": options.max_queue, "max_body_bytes": options.max_body_bytes}
    blocks = requested.pop("available_blocks")
    for name, value in requested.items():
        if value is not None and reported.get(name) != value:
            raise DirtyServerError(f"it was given {name} {value} and has {reported.get(name)}")
    # A server started with this number of blocks rounds it up to a multiple of its batch.
    if blocks is not None and not blocks <= reported["available_blocks"] < blocks + reported["max_num_seqs"]:
        raise DirtyServerError(f"it was given available_blocks {blocks} and has {reported['available_blocks']}")


def _object(answer: bytes) -> dict[str, Any]:
    try:
        data = json.loads(answer)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _metrics(text: str) -> dict[str, float]:
    """Return all metrics by name, with labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
