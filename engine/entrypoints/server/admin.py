"""``POST /admin/limits``: sets limits and options of a running server between two test cases.

The path exists only if the environment variable ``SPYRE_CB_ADMIN_TOKEN`` had a value when the server started. Requests
must send that value as a bearer token; all other requests to the path get status 404. The harness sets the variable
when it starts a server for several cases.
"""

from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Annotated

from pydantic import Field, ValidationError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.config import ConfigError, Limits
from engine.entrypoints.engine_thread import EngineBusyError
from engine.entrypoints.server.arguments import ServerSettings
from engine.entrypoints.server.errors import ApiError, bad_request, from_engine, from_validation
from engine.entrypoints.server.fields import Body, Text
from engine.entrypoints.server.gate import has_key, read_body
from engine.entrypoints.server.job import AppSettings, Service
from engine.entrypoints.server.metrics import Metrics

PATH = "/admin/limits"
MAX_BYTES = 2**16
"""The maximum size of the body of ``POST /admin/limits`` in bytes. ``max_body_bytes`` does not apply to it."""

Positive = Annotated[int, Field(ge=1)]


class Wanted(Body):
    """The limits and options to set. A field that is None resets its value to the one with which the server started."""

    max_model_len: Positive | None = None
    max_num_seqs: Positive | None = None
    num_blocks: Positive | None = None
    max_batch_tkv_limit: Positive | None = None
    max_queue: Annotated[int, Field(ge=0)] | None = None
    api_key: Text | None = None
    max_body_bytes: Positive | None = None


class Administration:
    """ASGI middleware that answers ``POST /admin/limits`` if the token is right, and passes on all other requests."""

    def __init__(self, app: ASGIApp, token: str, settings: ServerSettings, service: Service, metrics: Metrics) -> None:
        self._app = app
        self._token = token
        self._settings = settings
        self._service = service
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_the_call(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await read_body(Headers(scope=scope), receive, MAX_BYTES)
            answer: Response = JSONResponse(await self._go_on_with(_parsed(body or b"")))
        except Exception as error:
            answer = _refusal(error).response()
        await answer(scope, receive, send)

    def _is_the_call(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH:
            return False
        return has_key(Headers(scope=scope), self._token)

    async def _go_on_with(self, wanted: Wanted) -> dict[str, object]:
        """Set limits and options, reset the metrics, and return the values in effect. An error changes nothing."""
        service, started = self._service, self._settings
        service.check_open()
        effective = await service.llm.tighten(self._limits(wanted))
        self._metrics.restart()
        queue = started.max_queue if wanted.max_queue is None else wanted.max_queue
        service.llm.max_unfinished = effective.max_num_seqs + queue
        service.settings = AppSettings(
            wanted.api_key or started.app.api_key, wanted.max_body_bytes or started.app.max_body_bytes
        )
        options = {"max_queue": queue, "max_body_bytes": service.settings.max_body_bytes}
        return asdict(effective) | options

    def _limits(self, wanted: Wanted) -> Limits:
        """Return the limits that a server has if it is started with the values in ``wanted``.

        Raises ConfigError if EngineConfig does not accept these values.
        """
        built = self._settings.engine
        wanted_limits = replace(
            built,
            max_model_len=wanted.max_model_len or built.max_model_len,
            max_num_seqs=wanted.max_num_seqs or built.max_num_seqs,
            num_blocks=wanted.num_blocks or _unless_smaller(wanted, built.num_blocks),
            max_batch_tkv_limit=wanted.max_batch_tkv_limit or _unless_smaller(wanted, built.max_batch_tkv_limit),
        )
        # The number of blocks is rounded up, and a batch x tkv limit may exceed that of the engine: limit both.
        blocks = min(wanted_limits.available_blocks, built.available_blocks)
        batch_tkv = min(wanted_limits.batch_tkv_limit, built.batch_tkv_limit)
        return Limits(wanted_limits.max_model_len, wanted_limits.max_num_seqs, blocks, batch_tkv)


def _unless_smaller(wanted: Wanted, built: int | None) -> int | None:
    """Return ``built`` if ``wanted`` sets neither the context nor the batch size, else None.

    ``built`` is ``num_blocks`` or ``max_batch_tkv_limit`` of the EngineConfig with which the server was started. For
    None, an EngineConfig uses its default, which depends on the context and the batch size.
    """
    return built if wanted.max_model_len is None and wanted.max_num_seqs is None else None


def _parsed(body: bytes) -> Wanted:
    try:
        return Wanted.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error.errors()) from error


def _refusal(error: Exception) -> ApiError:
    match error:
        case ConfigError():
            return bad_request(str(error), code="impossible_limits")
        case EngineBusyError():
            return ApiError(HTTPStatus.CONFLICT, f"the engine is not idle: {error}", code="engine_busy")
        case _:
            return from_engine(error)
