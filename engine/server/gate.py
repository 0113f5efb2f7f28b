"""What a request must pass before anything looks at it: the key, and the size of its body. Plain ASGI."""

import asyncio
import hmac
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.server.errors import ApiError

READ_SECONDS = 30.0
"""How long a client may take to send a body."""


class Gate:
    """Lets through what has the key (paths under /v1, where there is a key) and a body of bounded size."""

    def __init__(self, app: ASGIApp, *, api_key: str | None, max_body_bytes: int) -> None:
        self._app = app
        self._api_key = api_key
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_key(scope["path"], headers)
            body = await self._read(headers, receive)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _first(body, receive), send)

    def _check_key(self, path: str, headers: Headers) -> None:
        if self._api_key is None or not path.startswith("/v1"):
            return
        said = headers.get("authorization", "")
        scheme, _, key = said.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._api_key.encode()):
            return
        message = "Incorrect API key provided." if said else "You didn't provide an API key: Authorization: Bearer KEY."
        raise ApiError(HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None where the client went away. Stops at the first byte too many."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise self._too_large()
        chunks, size = [], 0
        try:
            async with asyncio.timeout(READ_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._max_body_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise ApiError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not arrive within {READ_SECONDS:g} seconds",
                code="body_timeout",
                headers={"Connection": "close"},
            ) from None

    def _too_large(self) -> ApiError:
        return ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than the {self._max_body_bytes} bytes this server takes",
            code="body_too_large",
            headers={"Connection": "close"},
        )


def _first(body: bytes, receive: Receive) -> Receive:
    """``body`` as the first message, then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
