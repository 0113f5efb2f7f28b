"""The life cycle of a server: bind the port, load the model, serve, and shut down.

After the first SIGTERM or SIGINT the server accepts no requests, and aborts unfinished ones after ``--drain-seconds``.
A second signal ends the process immediately.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import closing, suppress
from math import ceil

import uvicorn
from starlette.types import ASGIApp

from checkpoints import CheckpointError
from engine.build import Engine, build_engine
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.engine_thread import EngineDeadError, EngineStoppedError
from engine.entrypoints.server.admin import Administration
from engine.entrypoints.server.app import create_app
from engine.entrypoints.server.arguments import ServerSettings
from engine.entrypoints.server.job import Service
from engine.entrypoints.server.metrics import Metrics

BACKLOG = 1024
CLOSE_SECONDS = 3
"""The seconds for sending the last data and closing connections after the last request has ended."""


class StartError(Exception):
    """The server cannot start. The message is one sentence for the user."""


def run(settings: ServerSettings) -> int:
    """Serve until a signal, and return the exit status: 0, or 1 if the engine ended with an error.

    Raises ConfigError if the configuration does not fit the model or the free memory, and StartError if the server
    cannot start for another reason.
    """
    with bind(settings.host, settings.port) as listener:
        try:
            engine = build_engine(settings.engine)
        except CheckpointError as error:
            raise StartError(str(error)) from error
        except (MemoryError, RuntimeError) as error:
            blocks = settings.engine.total_blocks
            raise StartError(
                f"cannot set up the model and a KV cache of {blocks} blocks: {_one_line(error)}"
            ) from error
        with closing(engine):
            _load_tokenizer(engine)
            return serve(engine, settings, listener)


def _load_tokenizer(engine: Engine) -> None:
    try:
        engine.tokenizer.load()
    except CheckpointError as error:
        raise StartError(str(error)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen yet.

    Raises StartError if the host is unknown, or if the port cannot be bound, for example because it is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise StartError(f"cannot listen on host {host!r}: {_one_line(error)}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on port {port} of {host}: {error.strerror or error}") from error


def serve(engine: Engine, settings: ServerSettings, listener: socket.socket) -> int:
    """Serve a built engine on a bound socket until a signal. Return 0, or 1 if the engine ended with an error.

    Raises StartError if the socket cannot listen, for example because another process listens on the port.
    """
    try:
        listener.listen(BACKLOG)  # with SO_REUSEADDR two processes can bind, but only one can listen
    except OSError as error:
        raise StartError(f"cannot listen on port {listener.getsockname()[1]}: {error.strerror}") from error
    return asyncio.run(_serve(engine, settings, listener))


def assembled(engine: Engine, settings: ServerSettings) -> tuple[ASGIApp, Service]:
    """Return the ASGI application that serves ``engine``, and the state that its request handlers share.

    If ``settings.admin_token`` is set, the application also answers ``POST /admin/limits`` (admin.py).
    """
    metrics = Metrics()
    most = settings.engine.max_num_seqs + settings.max_queue
    llm = AsyncLLM(engine, max_unfinished=most, observers=[metrics])
    metrics.watch(llm)
    service = Service(llm, settings.engine.model, settings.app)
    app: ASGIApp = create_app(service, metrics)
    if settings.admin_token is not None:
        app = Administration(app, settings.admin_token, settings, service, metrics)
    return app, service


async def _serve(engine: Engine, settings: ServerSettings, listener: socket.socket) -> int:
    app, service = assembled(engine, settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=ceil(settings.drain_seconds) + CLOSE_SECONDS,
        )
    )
    url = _url(listener)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        # This must follow the start: uvicorn installs handlers that re-raise the signal instead of exiting with 0.
        _handle_signals(server, service, settings.drain_seconds)
        with suppress(OSError):
            print(f"ready: {url}", flush=True)
    await serving
    return 1 if isinstance(service.llm.dead, EngineDeadError) else 0


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _handle_signals(server: uvicorn.Server, service: Service, drain_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    def on_signal(number: int) -> None:
        if draining:
            os._exit(128 + number)
        service.draining = True
        server.should_exit = True
        print(f"shutting down: running requests have {drain_seconds:g} s", file=sys.stderr, flush=True)
        draining.append(asyncio.create_task(_drain(service.llm, drain_seconds)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


async def _drain(llm: AsyncLLM, seconds: float) -> None:
    """Wait at most ``seconds`` seconds until all requests have ended, then shut down ``llm``.

    Requests that are still unfinished get an error.
    """
    with suppress(TimeoutError, EngineDeadError, EngineStoppedError):
        await asyncio.wait_for(llm.idle(), seconds)
    await asyncio.to_thread(llm.shutdown)
