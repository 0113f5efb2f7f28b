"""Error responses in OpenAI's format, and the HTTP status of each error of the engine."""

import logging
import re
from collections.abc import Mapping, Sequence
from email.message import Message
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from engine.entrypoints.async_llm import QueueFullError
from engine.entrypoints.engine_thread import EngineDeadError, EngineStoppedError
from engine.kv_cache.block_pool import OutOfBlocksError
from engine.request import SamplingParams, SamplingParamsError

RETRY_AFTER_SECONDS = 1
MAX_MESSAGE = 500
MAX_NAME = 100
"""The maximum lengths, in characters, of an error message and of a name from the request that a message repeats."""
_FIELDS = frozenset({*SamplingParams.__dataclass_fields__, "max_completion_tokens"})
_WITH_FORMATS = frozenset({"response_format"})
"""The fields whose value has one of several formats, which its field ``type`` names."""

_NO_OBJECT = frozenset({"dict_type", "model_type", "model_attributes_type"})
"""The types of pydantic's errors for a value that is not an object. Their messages name classes of Python."""

logger = logging.getLogger("uvicorn.error")


class ErrorDetail(BaseModel):
    """The error object of OpenAI's API."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


class ApiError(Exception):
    """An error response in OpenAI's format. ``param`` is the name of the wrong field of the body, or None."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        if status is HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rate_limit_error"
        param = None if param is None else shortened(param, MAX_NAME)
        detail = ErrorDetail(message=shortened(message, MAX_MESSAGE), type=kind, param=param, code=code)
        self.body = ErrorBody(error=detail)

    def response(self) -> JSONResponse:
        return JSONResponse(self.body.model_dump(), self.status, headers=self.headers and dict(self.headers))


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def try_again(status: HTTPStatus, message: str, code: str) -> ApiError:
    """Return an error response with the header ``Retry-After``, for status 429 or 503."""
    return ApiError(status, message, code=code, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def from_engine(error: Exception) -> ApiError:
    """Convert an error of the engine to an error response."""
    match error:
        case ApiError():
            return error
        case SamplingParamsError():
            field = str(error).split()[0].rstrip(":")
            return bad_request(str(error), field if field in _FIELDS else None)
        case OutOfBlocksError():
            return bad_request(str(error), code="out_of_blocks")
        case QueueFullError():
            return try_again(HTTPStatus.TOO_MANY_REQUESTS, str(error), "queue_full")
        case EngineStoppedError():
            return try_again(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down", "shutting_down")
        case EngineDeadError():
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), code="engine_dead")
        case _:
            logger.error("unforeseen error", exc_info=error)
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}", code="internal_error")


def handle_errors(app: FastAPI) -> None:
    """Return every error of ``app`` to the client in OpenAI's format."""

    @app.exception_handler(ApiError)
    async def ours(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if not _is_json(request.headers.get("content-type", "")):
            return bad_request("the header Content-Type must be application/json").response()
        return from_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def by_the_framework(request: Request, error: HTTPException) -> Response:
        where = f"{shortened(request.method, MAX_NAME)} {shortened(request.url.path, MAX_NAME)}"
        status = HTTPStatus(error.status_code)
        messages = {
            HTTPStatus.NOT_FOUND: f"{where}: this path does not exist",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{where}: this method is not allowed here",
        }
        return ApiError(status, messages.get(status, str(error.detail)), headers=error.headers).response()

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return from_engine(error).response()


def _is_json(content_type: str) -> bool:
    """Return whether FastAPI parses a body with this Content-Type as JSON."""
    message = Message()
    message["content-type"] = content_type
    kind, _, subtype = message.get_content_type().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return an error response for the first of pydantic's validation errors, with the field that is wrong."""
    first = errors[0]
    where = _place(first)
    message = re.sub(r"^Value error, ", "", first["msg"])
    if first["type"] in _NO_OBJECT:
        message = "must be an object"
    if not where:
        return bad_request("the body must be a JSON object")
    field = str(where[0]) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where[1:])
    if first["type"] == "extra_forbidden":
        return bad_request(f"unrecognized request argument: {shortened(field, MAX_NAME)}", field, "unknown_field")
    return bad_request(f"{shortened(field, MAX_NAME)}: {message}", field)


def _place(error: Mapping[str, Any]) -> list[str | int]:
    """Return the keys and indices that lead to the wrong value in the body.

    In pydantic's own list, a field of several formats is followed by the name of the format, which the body does not
    have.
    """
    where = [part for part in error["loc"] if part != "body"]
    return where[:1] + where[2:] if where and where[0] in _WITH_FORMATS else where


def shortened(text: str, most: int) -> str:
    """Return ``text`` in at most ``most`` characters. Characters that UTF-8 cannot encode become backslash escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"
