"""The parser of request bodies: refuses lone surrogates and deep nesting, and reports where an error is."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.responses import Response


class JsonRequest(Request):
    """A request parsed by pydantic's parser instead of Python's. NaN and infinity are refused later, by field."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body())
        except ValueError as error:
            # FastAPI passes on no other kind of exception here.
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {error}") from error


class JsonRoute(APIRoute):
    """A route whose requests are of class JsonRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json
