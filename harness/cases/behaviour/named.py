"""Named checks that need more than a list of actions: ``check: {name: …, options: {…}}`` in YAML.

A check is a coroutine ``(context, **options) -> str`` that returns a description of success or raises CheckFailedError.
A name with a colon, ``package.module:function``, is a check from another package.
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
    """A failed check. The message is one sentence."""


def check(function: CheckFunction) -> CheckFunction:
    """Register a check under its function's name, with dashes."""
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def find(name: str) -> CheckFunction | None:
    """Return the check with that name, None if there is none."""
    if ":" not in name:
        return CHECKS.get(name)
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function, None)
    except ImportError:
        return None


async def run_check(context: CaseContext, label: str, wanted: Check) -> list[Verdict]:
    """Return a verdict about one check, after at most two minutes."""
    function = find(wanted.name)
    assert function is not None, "checked when the suite was loaded"
    label = f"{label[:-1]} {wanted.name})"
    try:
        well = await asyncio.wait_for(function(context, **wanted.options), 2 * SECONDS)
    except CheckFailedError as failure:
        return [Verdict(False, f"{label}: {failure}")]
    except TimeoutError:
        return [Verdict(False, f"{label}: did not end within {2 * SECONDS} s")]
    except Exception as error:  # the case continues whatever a check raises
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
    """Return a connection on which the first event of a stream has been received."""
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
    """Check a client that closes its sending half while streaming: nothing is held afterwards, answered or not."""
    reader, writer = await _begun_stream(context, max_tokens)
    writer.write_eof()
    await reader.read()
    writer.close()
    await _until_idle(context)
    return "the connection was closed and nothing is held"


@check
async def reset_connection(context: CaseContext, max_tokens: int = 400) -> str:
    """Check a client whose connection breaks while streaming: nothing is held afterwards."""
    _, writer = await _begun_stream(context, max_tokens)
    writer.transport.abort()
    await _until_idle(context)
    return "the connection broke and nothing is held"


@check
async def slow_reader(context: CaseContext, max_tokens: int = 300, seconds: float = 1.0) -> str:
    """Check a client that reads late: no other client waits for it, and it gets the whole answer."""
    reader, writer = await _connected(context)
    writer.write(_streaming(max_tokens))
    await writer.drain()
    await asyncio.sleep(seconds)
    await _until_idle(context)
    received = (await reader.read()).decode()
    writer.close()
    events = [line.removeprefix("data: ").strip() for line in received.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise CheckFailedError(f"the slow reader did not get the end of its stream: …{received[-200:]!r}")
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    text = "".join(choice["text"] for choice in choices)
    whole = await context.client.complete(ClientRequest(context.name_of(), RequestSpec(0, (40, 41, 42), max_tokens)))
    if text != whole.choices[0].text:
        raise CheckFailedError(f"the slow reader got {text!r}, the whole answer is {whole.choices[0].text!r}")
    return "the engine was done before the reader began, and the reader got all of it in order"


@check
async def silent_connections(context: CaseContext, connections: int = 50) -> str:
    """Check clients that connect and send nothing: other clients are served."""
    opened = [await _connected(context) for _ in range(connections)]
    try:
        if not await context.client.healthy():
            raise CheckFailedError(f"with {connections} silent connections it does not answer")
    finally:
        for _, writer in opened:
            writer.close()
    return f"it answers despite {connections} silent connections"


@check
async def bytes_that_are_no_http(context: CaseContext) -> str:
    """Check that invalid HTTP is refused, and that the next client is served."""
    for invalid in (b"\x00\x01\x02\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 5000):
        reader, writer = await _connected(context)
        writer.write(invalid)
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(200), SECONDS)
        writer.close()
        if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            raise CheckFailedError(f"{invalid[:20]!r} was answered with {answer[:60]!r}")
    if not await context.client.healthy():
        raise CheckFailedError("it no longer answers")
    return "each was refused, and it still serves"


@check
async def body_that_never_comes(context: CaseContext) -> str:
    """Check a client that announces a body and disconnects before it is sent: nothing is held afterwards."""
    for _ in range(5):
        _, writer = await _connected(context)
        writer.write(_streaming(5)[:-10])
        await writer.drain()
        writer.close()
    await _until_idle(context)
    if not await context.client.healthy():
        raise CheckFailedError("it no longer answers")
    return "nothing is held, and it still serves"


@check
async def connects_and_leaves(context: CaseContext, times: int = 60) -> str:
    """Check clients that disconnect immediately after their request, some before the answer begins: nothing is held."""
    for i in range(times):
        reader, writer = await _connected(context)
        writer.write(_streaming(200))
        await writer.drain()
        if i % 3 == 0:
            await reader.readuntil(b"data: ")
        writer.transport.abort() if i % 2 else writer.close()
    await _until_idle(context)
    return f"after {times} of these connections nothing is held"


@check
async def batch_fills_up_and_no_more(context: CaseContext, batch: int = 2, clients: int = 3) -> str:
    """Check one client more than the batch size: its request waits, and runs when another has ended."""
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
        raise CheckFailedError("not every client got the end of its stream")
    return f"{batch} ran, {clients - batch} waited, all ran to their end"
