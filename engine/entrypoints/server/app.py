"""The ASGI application and its routes."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from engine.entrypoints.server import chat, completions
from engine.entrypoints.server.chat import ChatForm
from engine.entrypoints.server.completions import CompletionForm
from engine.entrypoints.server.connection import CLIENT_GONE, EventStream, while_connected
from engine.entrypoints.server.errors import ErrorBody, bad_request, from_engine, handle_errors
from engine.entrypoints.server.forms import Form, events
from engine.entrypoints.server.gate import Gate
from engine.entrypoints.server.job import Job, Service
from engine.entrypoints.server.json_body import JsonRoute
from engine.entrypoints.server.metrics import Metrics
from engine.entrypoints.server.requests import ChatRequest, CommonRequest, CompletionRequest
from engine.entrypoints.server.responses import ChatResponse, CompletionResponse, Health, ModelCard, ModelList, Version
from engine.structured_outputs import StructuredOutputsError

Body = TypeVar("Body", bound=CommonRequest)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 408, 413, 429, 500, 503)
}

_ANSWERS = _ERRORS | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def create_app(service: Service, metrics: Metrics) -> FastAPI:
    """Return the server as an ASGI application. At its shutdown, the application shuts down ``service.llm``."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.llm.shutdown)

    app = FastAPI(
        title="spyre-cb", version=version("spyre-cb"), lifespan=lifespan, docs_url=None, redoc_url=None, debug=False
    )
    app.router.route_class = JsonRoute
    app.add_middleware(Gate, settings=lambda: service.settings)
    handle_errors(app)
    _add_generation(app, service)
    _add_models(app, service)
    _add_operation(app, service, metrics)
    _describe(app)
    return app


def _add_generation(app: FastAPI, service: Service) -> None:
    tokenizer = service.llm.engine.tokenizer

    @app.post("/v1/completions", response_model=CompletionResponse, responses=_ANSWERS)
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """Continue one or several prompts. With ``stream`` the response is a stream of server-sent events."""
        return await _answer(
            service, body, request, completions.begin, lambda job: CompletionForm(job, body, tokenizer)
        )

    @app.post("/v1/chat/completions", response_model=ChatResponse, responses=_ANSWERS)
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        """Continue a conversation, formatted with the model's chat template.

        With ``stream`` the response is a stream of server-sent events.
        """
        return await _answer(service, body, request, chat.begin, lambda job: ChatForm(job, body))


async def _answer(
    service: Service,
    body: Body,
    request: Request,
    begin: Callable[[Service, Body], Coroutine[Any, Any, Job]],
    form_of: Callable[[Job], Form],
) -> Response:
    """Check a completion or chat completion request, queue it, and return the response: one body or a stream."""
    try:
        service.check_open()
        service.check_model(body.model)
        if body.stream:
            job = await begin(service, body)
            every_token = bool(body.return_token_ids) or bool(getattr(body, "logprobs", None) is not None)
            stream = events(job, form_of(job), include_usage=body.include_usage, every_token=every_token)
            return EventStream(stream, job.collector.close)
        whole = await while_connected(request.receive, _whole(service, body, begin, form_of))
        return whole or Response(status_code=CLIENT_GONE)
    except StructuredOutputsError as error:
        raise bad_request(str(error), body.structure_field) from error
    except Exception as error:
        raise from_engine(error) from error


async def _whole(
    service: Service,
    body: Body,
    begin: Callable[[Service, Body], Coroutine[Any, Any, Job]],
    form_of: Callable[[Job], Form],
) -> Response:
    job = await begin(service, body)
    try:
        outputs = await job.collector.take_all()
    finally:
        job.collector.close()
    return Response(form_of(job).whole(outputs).model_dump_json(), media_type="application/json")


def _add_models(app: FastAPI, service: Service) -> None:
    def card() -> ModelCard:
        most = service.llm.limits.max_model_len
        return ModelCard(id=service.model, created=service.created, max_model_len=most)

    @app.get("/v1/models", responses=_ERRORS)
    async def list_models() -> ModelList:
        """Return the model that this server has, as a list of one model."""
        return ModelList(data=[card()])

    @app.get("/v1/models/{name:path}", responses=_ERRORS)
    async def get_model(name: str) -> ModelCard:
        """Return the model that this server serves. Any other name gets status 404."""
        service.check_model(name)
        return card()


def _add_operation(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health", responses={503: {"model": ErrorBody}})
    async def health() -> Health:
        """Return status 200 while requests are accepted; 503 if the engine has ended or the server is shutting down."""
        service.check_open()
        return Health()

    @app.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Return metrics in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    async def show_version() -> Version:
        """Return the version of this package."""
        return Version(version=version("spyre-cb"))


def _describe(app: FastAPI) -> None:
    """Remove FastAPI's response 422 from the OpenAPI document, since this server answers invalid bodies with 400."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        document = generate()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return document

    app.openapi = described  # type: ignore[method-assign]
