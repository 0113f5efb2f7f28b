"""The driver ``openai-http`` for OpenAI-compatible servers, which are already running or are started by the harness.

With this driver, only behaviour cases (cases that send requests and check the answers) are run, over HTTP. Cases that
need the engine's steps are skipped.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from harness.drivers.base import GOLDEN_TOKENS, PROMPT_LOGPROBS, STRUCTURED_OUTPUTS, Driver, Session, UnavailableError
from harness.drivers.client import BLOCK_METRICS, HTTP, RESTART, Client
from harness.drivers.http_client import METRIC_NAMES, HttpClient
from harness.drivers.optional import SharedServer
from harness.drivers.registry import DriverOptionError, DriverOptions
from harness.drivers.servers import ServerProcess, reference_server
from harness.drivers.shared_server import start_shared
from harness.drivers.structured import structured_outputs
from harness.drivers.vllm.plugins import find_plugin, why_none
from harness.drivers.vllm.server import vllm_describe, vllm_scheduler, vllm_server, vllm_unavailable, vllm_unfit
from harness.drivers.vllm.versions import number_of_vllm
from harness.suites.schema import Scheduler, ServerOptions
from harness.types import DEFAULT_SCHEDULER, EngineSetup, SchedulingLimits
from harness.utils.extras import ENGINE, HTTP_CLIENT, SERVER, why_missing

API_KEY = "OPENAI_API_KEY"
STARTERS: Mapping[str, Callable[[EngineSetup, SchedulingLimits, ServerOptions], ServerProcess]] = {
    "reference": reference_server,
    "vllm": vllm_server,
}
SECONDS = 10


class ServerError(Exception):
    """The server of ``--cb-server-url`` can't be used, or ``--cb-server-shape`` is invalid. The message says why."""


@dataclass(frozen=True)
class RunningServer:
    """A server that the user has started. A limit that is not known is None.

    ``reports_blocks`` is whether the server's metrics include numbers of blocks.
    """

    url: str
    model: str
    limits: SchedulingLimits
    backend: str = "eager"
    tensor_parallel_size: int = 1
    reports_blocks: bool = False


SHAPE = ("max_model_len", "max_num_seqs", "available_blocks", "max_batch_tkv_limit", "tensor_parallel_size", "backend")


def parse_shape(text: str) -> dict[str, str | int]:
    """Convert the value of ``--cb-server-shape``, such as ``max_num_seqs=4,backend=sendnn``, to a dict.

    Raises ServerError if a part is not NAME=VALUE with a name in SHAPE.
    """
    shape: dict[str, str | int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in SHAPE or not value or (name != "backend" and not value.isdecimal()):
            names = ", ".join(SHAPE)
            raise ServerError(
                f"{part!r} is not NAME=VALUE with one of the names {names}; values are whole numbers, except backend"
            )
        shape[name] = value if name == "backend" else int(value)
    return shape


def find_server(url: str, given: Mapping[str, str | int]) -> RunningServer:
    """Request the model and the context length of the server at ``url``, and return the server.

    ``given`` has the properties that the user gives with ``--cb-server-shape``. They replace those that the server
    reports. Raises ServerError if there is no server at ``url``, or if its answer is not that of an OpenAI-compatible
    server.
    """
    if not _is_url(url):
        raise ServerError(f"{url!r} is not a URL: it must be http://HOST:PORT or https://HOST:PORT")
    url = url.rstrip("/").removesuffix("/v1")
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {_key()}"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            card = json.load(reply)["data"][0]
            limits = {"max_model_len": card.get("max_model_len"), **given}
            backend, size = str(limits.pop("backend", "eager")), int(limits.pop("tensor_parallel_size", 1))
            effective = SchedulingLimits(**limits)
            return RunningServer(url, str(card["id"]), effective, backend, size, _reports_blocks(url))
    except urllib.error.HTTPError as error:
        hint = f"; give the server's API key in the environment variable {API_KEY}" if error.code in (401, 403) else ""
        raise ServerError(f"{url}/v1/models answers with HTTP status {error.code}{hint}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerError(f"no server answers at {url}: {reason}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise ServerError(
            f"the server at {url} does not answer /v1/models as an OpenAI-compatible server does: check the URL"
        ) from error


def _is_url(text: str) -> bool:
    """Return whether ``text`` is the URL of a server. It need not have a port."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # urlsplit and ``port`` raise it, for example for a "[" without "]" and for the port "abc".
        return False
    printable = text.isprintable() and " " not in text
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and printable


def _reports_blocks(url: str) -> bool:
    """Return whether the server's metrics include numbers of blocks."""
    request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {_key()}"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            text = reply.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return False
    return any(name in text for name in METRIC_NAMES["used_blocks"])


def _key() -> str:
    return os.environ.get(API_KEY) or "none"


def _capabilities(running: RunningServer | None, start: str) -> frozenset[str]:
    """Return the capabilities of the server ``running`` or, if that is None, of servers of the kind ``start``.

    A server that the user has started is assumed to support structured outputs and logprobs of prompts, as vLLM does.
    """
    if running is not None:
        more = {PROMPT_LOGPROBS, STRUCTURED_OUTPUTS}
        return frozenset({HTTP} | more | ({BLOCK_METRICS} if running.reports_blocks else set()))
    if start == "reference":
        return frozenset({HTTP, RESTART, BLOCK_METRICS, PROMPT_LOGPROBS, GOLDEN_TOKENS}) | structured_outputs()
    plugin = find_plugin()
    some = {PROMPT_LOGPROBS, STRUCTURED_OUTPUTS, GOLDEN_TOKENS}
    return frozenset({HTTP, RESTART}) | (some & (plugin.able if plugin else set()))


class OpenAIHttpDriver:
    """The driver for the server ``running`` or, if that is None, for servers that the driver starts.

    ``start`` is the kind of server to start, a key of STARTERS. A server of the reference engine is started once for
    each engine setup, and its limits are changed between cases. A server of another kind is started for each case, with
    the limits of the case.
    """

    def __init__(self, running: RunningServer | None = None, start: str = "reference") -> None:
        self._running, self._start = running, start
        self.name = "vllm serve" if running is None and start == "vllm" else "openai-http"
        self.scheduler: Scheduler = vllm_scheduler() if self.name == "vllm serve" else DEFAULT_SCHEDULER
        self.vllm_version = number_of_vllm() if self.name == "vllm serve" else None
        self.capabilities = _capabilities(running, start)

    def describe(self) -> str:
        if self._running is None:
            name = vllm_describe() if self._start == "vllm" else f"{self._start} server"
            return f"{name} over HTTP, started by the harness"
        return f"server at {self._running.url}, model {self._running.model}"

    def unavailable(self, setup: EngineSetup) -> str | None:
        if self._running is not None:
            for name in ("backend", "tensor_parallel_size"):
                wanted, has = getattr(setup, name), getattr(self._running, name)
                if wanted != has:
                    what = f"the case needs {name} {wanted}, but the server has {has}"
                    return f"{what}; if this is wrong, give --cb-server-shape {name}={wanted}"
        if self._running is None and self._start == "reference":
            from harness.drivers.reference import reference_unavailable  # imports the engine

            return reference_unavailable(setup)
        return vllm_unavailable(setup) if self._running is None else None

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> str | None:  # noqa: ARG002
        """Return why the server can't run a case with these limits and server options, as one sentence.

        Return None if it can.
        """
        if self._running is None:
            return vllm_unfit(options) if self._start == "vllm" else None
        own = {name for name, value in options.model_dump().items() if value is not None}
        if own:
            what = f"the case needs a server with {', '.join(sorted(own))}"
            return f"{what}, but the options of the running server of --cb-server-url can't be changed"
        has = asdict(self._running.limits)
        for name, wanted in asdict(limits).items():
            if wanted is not None and wanted != has[name]:
                known = "does not report its value" if has[name] is None else f"has {has[name]}"
                what = f"the case needs {name} {wanted}, but the server {known}"
                return f"{what}; if this is wrong, give --cb-server-shape {name}={wanted}"
        return None

    def backend_label(self, backend: str) -> str:
        if self._running is None and self._start == "reference":
            from harness.drivers.reference import reference_label

            return reference_label(backend)
        return backend

    def open(self, setup: EngineSetup) -> Session:  # noqa: ARG002
        raise UnavailableError("steps can't be observed over HTTP: use another driver for this case")

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> Client:
        if self._running is not None:
            return HttpClient(self._running.url, self._running.model, api_key=_key())
        process = STARTERS[self._start](setup, limits, options)
        return HttpClient(process.url, setup.model, api_key=options.api_key, process=process)

    def share(self, setup: EngineSetup) -> SharedServer | None:
        return start_shared(setup) if self._running is None and self._start == "reference" else None


def make(options: DriverOptions) -> Driver:
    """Return the driver that ``options`` select.

    With ``simulate``, this is the driver that runs the reference engine's scheduler without a model and without a
    server. Otherwise exactly one of ``server_url`` and ``serve`` must be given. With ``server_url``, the driver uses
    the running server at this URL. With ``serve``, the driver starts servers of this kind.

    Raises UnavailableError if both or neither of the two is given, or if a package is missing. Raises DriverOptionError
    if ``server_shape`` is invalid, or if the running server can't be used.
    """
    if options.simulate:
        from harness.drivers.reference import SimulationDriver

        return SimulationDriver()
    if (options.server_url is None) == (options.serve is None):
        raise UnavailableError(f"give either --cb-server-url URL or --cb-serve {' or '.join(STARTERS)}")
    if options.serve is not None:
        if reason := _why_not_started(options.serve):
            raise UnavailableError(f"--cb-serve {options.serve}: {reason}")
        return OpenAIHttpDriver(start=options.serve)
    if missing := why_missing(HTTP_CLIENT):
        raise UnavailableError(missing)
    assert options.server_url is not None
    try:
        shape = parse_shape(options.server_shape or "")
    except ServerError as error:
        raise DriverOptionError("server-shape", str(error)) from error
    try:
        return OpenAIHttpDriver(find_server(options.server_url, shape))
    except ServerError as error:
        raise DriverOptionError("server-url", str(error)) from error


def _why_not_started(server: str) -> str | None:
    """Return why no server of the kind ``server`` can be started on this machine, whatever its engine setup is.

    Return None if such servers can be started.
    """
    if server == "vllm" and find_plugin() is None:
        return why_none()
    return why_missing(*(() if server == "vllm" else (ENGINE, SERVER)), HTTP_CLIENT)
