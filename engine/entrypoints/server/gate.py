"""ASGI middleware that checks the API key and the size of the body before a request is parsed."""

import asyncio
import hmac
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.entrypoints.server.errors import ApiError
from engine.entrypoints.server.job import AppSettings

READ_SECONDS = 30.0
"""The time limit for a client to send its body."""


class Gate:
    """ASGI middleware that refuses requests with a wrong API key or a body that is too large.

    The key is checked for paths under ``/v1``, if the server has an API key.
    """

    def __init__(self, app: ASGIApp, *, settings: Callable[[], AppSettings]) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._settings()
        try:
            headers = Headers(scope=scope)
            _check_key(scope["path"], headers, settings.api_key)
            body = await read_body(headers, receive, settings.max_body_bytes)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _first(body, receive), send)


def _check_key(path: str, headers: Headers, key: str | None) -> None:
    if key is None or not path.startswith("/v1") or has_key(headers, key):
        return
    given = headers.get("authorization", "")
    message = "Incorrect API key provided." if given else "You didn't provide an API key: Authorization: Bearer KEY."
    raise ApiError(HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def has_key(headers: Headers, key: str) -> bool:
    """Return whether a request has the header ``Authorization: Bearer KEY`` with this key.

    The comparison takes the same time for every wrong key, so that its duration reveals nothing about the right key.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())


async def read_body(headers: Headers, receive: Receive, most: int) -> bytes | None:
    """Return the body of a request; None if the client disconnects before the body is complete.

    Raises ApiError as soon as it is known that the body has more than ``most`` bytes. Raises ApiError, too, if the body
    does not arrive within READ_SECONDS.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise ApiError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {READ_SECONDS:g} seconds",
            code="body_timeout",
            headers={"Connection": "close"},
        ) from None


def _too_large(most: int) -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {most} bytes, the limit of this server",
        code="body_too_large",
        headers={"Connection": "close"},
    )


def _first(body: bytes, receive: Receive) -> Receive:
    """Return an ASGI receive function: its first message has all of ``body``, later messages come from ``receive``."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
