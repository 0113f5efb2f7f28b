"""Parse request bodies with pydantic's JSON parser.

Unlike Python's ``json``, that parser refuses lone surrogates and deep nesting, and its errors name line and column.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.responses import Response


class JsonRequest(Request):
    """A request whose body is parsed by pydantic. The parser accepts NaN and infinity; types of fields refuse them."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body())
        except ValueError as error:
            # FastAPI replaces any other exception with an error of its own.
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {error}") from error


class JsonRoute(APIRoute):
    """A route whose requests are of class JsonRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json
