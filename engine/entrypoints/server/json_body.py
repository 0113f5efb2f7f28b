"""How a body is read: a parser that refuses half characters and endless nesting, and says where the mistake is."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.responses import Response


class JsonRequest(Request):
    """Parses with pydantic's parser rather than Python's. NaN and infinity pass; a field's check names them."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body())
        except ValueError as error:
            # The one kind of exception that FastAPI lets through here.
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {error}") from error


class JsonRoute(APIRoute):
    """FastAPI's way to have requests of another class."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json
