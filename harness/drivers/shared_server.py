"""A server of the reference engine that many cases use, one after the other.

Before each case, ``POST /admin/limits`` sets the limits and options of the case, and removes the state of earlier
cases. Then the limits in the server's responses and all metrics in ``/metrics`` are checked: they must be those of a
server that was started for this case.
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
"""How long to wait, in seconds, until the server has aborted requests that did not end in the last case."""
POLL_SECONDS = 0.02
OPTIONS = ("max_queue", "api_key", "max_body_bytes")
"""Options of the server that can be changed while it runs."""
NOT_ZERO = {"spyre_cb_blocks_available", "spyre_cb_engine_up"}
"""Names of the metrics that are not zero in a new server. All other metrics must be zero before a case."""

Reply = tuple[int, bytes]


class SharedReferenceServer:
    """A shared server of the reference engine. ``token`` is the token for ``POST /admin/limits``.

    The object can be used in forks of the process that has started the server, because it needs only URL and token.
    """

    def __init__(self, process: ServerProcess, setup: EngineSetup, token: str) -> None:
        self._process = process
        self._setup = setup
        self._token = token

    def client(self, limits: SchedulingLimits, options: ServerOptions) -> Client:
        """Set the limits and options of a case, check that they took effect, and return a client of the server.

        Raises UnavailableError if the server can't have these limits, and DirtyServerError if its limits or metrics are
        not those of a new server, or if it does not answer.
        """
        reported = self._effective_limits(limits, options)
        _compare(reported, limits, options)
        self._prove(reported, options.api_key)
        return HttpClient(self._process.url, self._setup.model, api_key=options.api_key)

    def end(self) -> None:
        self._process.end()

    def _effective_limits(self, limits: SchedulingLimits, options: ServerOptions) -> Mapping[str, Any]:
        """Set the limits and options with ``POST /admin/limits``, and return the limits in the server's response.

        The server refuses the call while its engine is not idle. The call is repeated for up to ``IDLE_SECONDS``.
        Raises UnavailableError if the server can't have these limits, and DirtyServerError if the call fails.
        """
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
            raise UnavailableError(f"the server can't have the limits of this case: {message}")
        raise DirtyServerError(message or f"the server answers POST {PATH} with status {status}")

    def _prove(self, reported: Mapping[str, Any], api_key: str | None) -> None:
        """Check that the server is in the state of a new server, and raise DirtyServerError if it is not.

        /v1/models and /metrics must show the limits in ``reported``, which the server has returned. All counters in
        /metrics must be 0. Requests must need the API key ``api_key``, or no API key if it is None.
        """
        status, answer = self._send("GET", "/v1/models", api_key)
        if status != http.client.OK:
            what = "although the request has the API key of this case" if api_key else "to a request without an API key"
            raise DirtyServerError(f"the server answers /v1/models with status {status} {what}")
        if api_key is not None and self._send("GET", "/v1/models", None)[0] != http.client.UNAUTHORIZED:
            raise DirtyServerError("the server has an API key, but answers requests without it")
        context = _object(answer)["data"][0]["max_model_len"]
        if context != reported["max_model_len"]:
            expected = reported["max_model_len"]
            raise DirtyServerError(f"/v1/models has max_model_len {context}, but it was set to {expected}")
        _, text = self._send("GET", "/metrics", None)
        metrics = _metrics(text.decode())
        if metrics.get("spyre_cb_blocks_available") != reported["available_blocks"]:
            shown = metrics.get("spyre_cb_blocks_available")
            expected = reported["available_blocks"]
            raise DirtyServerError(f"/metrics has {shown} available blocks, but the limit was set to {expected}")
        if metrics.get("spyre_cb_engine_up") != 1:
            raise DirtyServerError("the engine of the server is dead")
        left = [f"{name} {value:g}" for name, value in metrics.items() if value and name not in NOT_ZERO]
        if left:
            raise DirtyServerError(f"the metrics are not those of a new server: {', '.join(left[:5])}")

    def _send(self, method: str, path: str, key: str | None, body: bytes | None = None) -> Reply:
        """Send a request on a new connection, and return (status, body) of the response. No thread is started.

        ``key`` is the API key to send, None for none. Raises DirtyServerError if there is no response.
        """
        address = urlsplit(self._process.url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_SECONDS)
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise DirtyServerError(f"the server does not answer: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def start_shared(setup: EngineSetup) -> SharedReferenceServer:
    """Start a server that all cases with this setup can use, one after the other.

    Raises UnavailableError if the server does not start.
    """
    process, token = robust_reference_server(setup)
    return SharedReferenceServer(process, setup, token)


def _compare(reported: Mapping[str, Any], limits: SchedulingLimits, options: ServerOptions) -> None:
    """Raise DirtyServerError if a limit or option in ``reported`` is not the requested one.

    ``reported`` has the values that the server has returned. Limits and options that are None are not compared.
    """
    requested = asdict(limits) | {"max_queue": options.max_queue, "max_body_bytes": options.max_body_bytes}
    blocks = requested.pop("available_blocks")
    for name, value in requested.items():
        if value is not None and reported.get(name) != value:
            raise DirtyServerError(f"{name} was set to {value}, but the server reports {reported.get(name)}")
    # A server rounds the number of blocks up to a multiple of max_num_seqs.
    if blocks is not None and not blocks <= reported["available_blocks"] < blocks + reported["max_num_seqs"]:
        has = reported["available_blocks"]
        raise DirtyServerError(f"available_blocks was set to {blocks}, but the server reports {has}")


def _object(answer: bytes) -> dict[str, Any]:
    try:
        data = json.loads(answer)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _metrics(text: str) -> dict[str, float]:
    """Return the values in the text of ``/metrics``. A key is the name of a metric with its labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
