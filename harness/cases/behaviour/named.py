"""Checks that need more than a list of actions, by name: YAML refers to them as ``check: {name: …, options: {…}}``.

A check is a coroutine ``(context, **options) -> str``: what it found well, or CheckFailedError. A name with a colon,
``package.module:function``, is one of somebody else's.
"""

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from harness.cases.behaviour.context import SECONDS, CaseContext
from harness.cases.behaviour.waiting import wait_for
from harness.drivers.client import ClientRequest
from harness.runs.engine_failure import failure_of, traceback_of
from harness.suites.schema import Check, Wait
from harness.types import RequestSpec, Verdict

CheckFunction = Callable[..., Awaitable[str]]
CHECKS: dict[str, CheckFunction] = {}


class CheckFailedError(AssertionError):
    """What a check found wrong, in one sentence."""


def check(function: CheckFunction) -> CheckFunction:
    """Register a check under its function's name, with dashes."""
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def find(name: str) -> CheckFunction | None:
    """The check of that name; None where there is none."""
    if ":" not in name:
        return CHECKS.get(name)
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function, None)
    except ImportError:
        return None


async def run_check(context: CaseContext, label: str, wanted: Check) -> list[Verdict]:
    """A verdict on one check. It may take two minutes."""
    function = find(wanted.name)
    assert function is not None, "asked when the suite was read"
    label = f"{label[:-1]} {wanted.name})"
    try:
        well = await asyncio.wait_for(function(context, **wanted.options), 2 * SECONDS)
    except CheckFailedError as failure:
        return [Verdict(False, f"{label}: {failure}")]
    except TimeoutError:
        return [Verdict(False, f"{label}: no end within {2 * SECONDS} s")]
    except Exception as error:  # whatever a check of somebody's does, the case goes on
        return [Verdict(False, f"{label}: the check itself failed: {failure_of(error)}", traceback_of(error))]
    return [Verdict(True, f"{label}: {well}")]


# --- over sockets ----------------------------------------------------------------------------------------------


async def _connected(context: CaseContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = context.client.url.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


def _post(path: str, body: Mapping[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


async def _begun_stream(context: CaseContext, max_tokens: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the first event of a stream has come."""
    reader, writer = await _connected(context)
    writer.write(_streaming(max_tokens))
    await writer.drain()
    await reader.readuntil(b"data: ")
    return reader, writer


def _streaming(max_tokens: int) -> bytes:
    body = {"prompt": [40, 41, 42], "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    return _post("/v1/completions", body)


async def _until_idle(context: CaseContext) -> None:
    await _until(context, Wait(idle=True))


async def _until(context: CaseContext, wait: Wait) -> None:
    trouble = await wait_for(context, wait)
    if trouble is not None:
        raise CheckFailedError(trouble)


@check
async def half_closed_connection(context: CaseContext, max_tokens: int = 400) -> str:
    """A client that closes its sending half in mid-stream: whether it is answered or let go, nothing stays behind."""
    reader, writer = await _begun_stream(context, max_tokens)
    writer.write_eof()
    await reader.read()
    writer.close()
    await _until_idle(context)
    return "the connection was closed and nothing is held"


@check
async def reset_connection(context: CaseContext, max_tokens: int = 400) -> str:
    """A client whose connection breaks in mid-stream."""
    _, writer = await _begun_stream(context, max_tokens)
    writer.transport.abort()
    await _until_idle(context)
    return "the connection broke and nothing is held"


@check
async def slow_reader(context: CaseContext, max_tokens: int = 300, seconds: float = 1.0) -> str:
    """A client that does not read keeps nobody waiting, and gets all of it when it does."""
    reader, writer = await _connected(context)
    writer.write(_streaming(max_tokens))
    await writer.drain()
    await asyncio.sleep(seconds)
    await _until_idle(context)
    said = (await reader.read()).decode()
    writer.close()
    events = [line.removeprefix("data: ").strip() for line in said.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise CheckFailedError(f"the slow reader did not get the end of its stream: …{said[-200:]!r}")
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    text = "".join(choice["text"] for choice in choices)
    whole = await context.client.complete(ClientRequest(context.name_of(), RequestSpec(0, (40, 41, 42), max_tokens)))
    if text != whole.choices[0].text:
        raise CheckFailedError(f"the slow reader got {text!r}, the whole answer is {whole.choices[0].text!r}")
    return "the engine was done before the reader began, and the reader got all of it in order"


@check
async def silent_connections(context: CaseContext, connections: int = 50) -> str:
    """Clients that connect and say nothing take nothing from the others."""
    opened = [await _connected(context) for _ in range(connections)]
    try:
        if not await context.client.healthy():
            raise CheckFailedError(f"with {connections} silent connections it does not answer")
    finally:
        for _, writer in opened:
            writer.close()
    return f"it answers beside {connections} silent connections"


@check
async def bytes_that_are_no_http(context: CaseContext) -> str:
    """What is no HTTP is refused, and the next client is served."""
    for garbage in (b"\x00\x01\x02\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 5000):
        reader, writer = await _connected(context)
        writer.write(garbage)
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(200), SECONDS)
        writer.close()
        if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            raise CheckFailedError(f"{garbage[:20]!r} was answered with {answer[:60]!r}")
    if not await context.client.healthy():
        raise CheckFailedError("it does not answer any more")
    return "each was refused, and it still serves"


@check
async def body_that_never_comes(context: CaseContext) -> str:
    """A client that promises a body and goes away before it sent it."""
    for _ in range(5):
        _, writer = await _connected(context)
        writer.write(_streaming(5)[:-10])
        await writer.drain()
        writer.close()
    await _until_idle(context)
    if not await context.client.healthy():
        raise CheckFailedError("it does not answer any more")
    return "nothing is held, and it still serves"


@check
async def connects_and_leaves(context: CaseContext, times: int = 60) -> str:
    """Clients that ask and leave at once, again and again, some before the answer began."""
    for i in range(times):
        reader, writer = await _connected(context)
        writer.write(_streaming(200))
        await writer.drain()
        if i % 3 == 0:
            await reader.readuntil(b"data: ")
        writer.transport.abort() if i % 2 else writer.close()
    await _until_idle(context)
    return f"after {times} of them nothing is held"


@check
async def batch_fills_up_and_no_more(context: CaseContext, batch: int = 2, clients: int = 3) -> str:
    """One client more than the batch holds: it waits, and runs when another has ended."""
    opened = [await _connected(context) for _ in range(clients)]
    for _, writer in opened:
        writer.write(_streaming(300))
        await writer.drain()
    await _until(context, Wait(running=batch))
    state = await context.client.state()
    if state.running != batch or (state.waiting or 0) > clients - batch:
        raise CheckFailedError(f"{clients} clients and a batch of {batch}: {state}")
    texts = [(await reader.read()).decode() for reader, _ in opened]
    for _, writer in opened:
        writer.close()
    if not all("data: [DONE]" in text for text in texts):
        raise CheckFailedError("not every client got to the end of its stream")
    return f"{batch} ran, {clients - batch} waited, all got to their end"
