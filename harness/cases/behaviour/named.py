"""Named checks: Python functions that test behaviour which a list of actions in YAML cannot express.

A case names a check with ``check: {name: …, options: {…}}``. A check is a coroutine ``(context, **options) -> str``. It
returns a sentence that describes the correct behaviour it observed, or raises CheckFailedError. A check of another
package is named ``package.module:function``.
"""

import asyncio
import importlib
import inspect
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
    """The engine did not behave as the check requires. The message is one sentence that says what is wrong."""


def check(function: CheckFunction) -> CheckFunction:
    """Register a function as a check. The check's name is the function's name with dashes for underscores."""
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def find(name: str) -> CheckFunction | None:
    """Return the check with the given name.

    Return None if it does not exist, if it is not a function, or if its module can't be imported.
    """
    if ":" not in name:
        return CHECKS.get(name)
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception:  # The name can be no name of a module, such as "" or ".x", and a module can raise any error.
        return None
    return found if callable(found) else None


def why_unfit(function: Any, options: Mapping[str, Any]) -> str | None:
    """Return why ``function`` can't be called as a check with these options, None if it can."""
    if not any(map(inspect.iscoroutinefunction, (function, function.__call__))):
        return "it is not a coroutine function (async def)"
    try:
        inspect.signature(function).bind(None, **options)
    except TypeError as error:
        return f"it can't be called with the context and the options of the case: {error}"
    return None


async def run_check(context: CaseContext, label: str, wanted: Check) -> list[Verdict]:
    """Run the check that an action names, and return a list with its verdict.

    The verdict is a failure if the check raises an exception, or takes longer than two minutes. ``label`` names the
    action in the verdict.
    """
    function = find(wanted.name)
    assert function is not None, "a suite that names an unknown check is rejected when it is loaded"
    label = f"{label[:-1]} {wanted.name})"
    try:
        well = await asyncio.wait_for(function(context, **wanted.options), 2 * SECONDS)
    except CheckFailedError as failure:
        return [Verdict(False, f"{label}: {failure}")]
    except TimeoutError:
        return [Verdict(False, f"{label}: did not end within {2 * SECONDS} s")]
    except Exception as error:  # Any error in a check is a failed verdict, and the other actions still run.
        return [Verdict(False, f"{label}: the check raised {failure_of(error)}", traceback_of(error))]
    return [Verdict(True, f"{label}: {well}")]


# --- checks that open connections to the server -----------------------------------------------------------------


async def _connected(context: CaseContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = context.client.url.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


def _post(path: str, body: Mapping[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


async def _begun_stream(context: CaseContext, max_tokens: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send a streaming request. Return the connection after the first event of the stream."""
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
    """Check that a request whose client closes the sending half of its connection leaves no blocks in use.

    The server may finish the answer or abort the request.
    """
    reader, writer = await _begun_stream(context, max_tokens)
    writer.write_eof()
    await reader.read()
    writer.close()
    await _until_idle(context)
    return "the client closed its sending half while streaming; afterwards no requests run and no blocks are in use"


@check
async def reset_connection(context: CaseContext, max_tokens: int = 400) -> str:
    """Check that a request whose connection is reset while streaming leaves no blocks in use."""
    _, writer = await _begun_stream(context, max_tokens)
    writer.transport.abort()
    await _until_idle(context)
    return "the connection was reset while streaming; afterwards no requests run and no blocks are in use"


@check
async def slow_reader(context: CaseContext, max_tokens: int = 300, seconds: float = 1.0) -> str:
    """Check that the engine finishes a request although the client does not read the streamed answer.

    The client waits ``seconds`` seconds, and then until the engine is idle. Only then does it begin to read, and it
    must get the complete answer.
    """
    reader, writer = await _connected(context)
    writer.write(_streaming(max_tokens))
    await writer.drain()
    await asyncio.sleep(seconds)
    await _until_idle(context)
    received = (await reader.read()).decode()
    writer.close()
    events = [line.removeprefix("data: ").strip() for line in received.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise CheckFailedError(
            f"a stream that the client read only after the engine was idle ends without [DONE]: …{received[-200:]!r}"
        )
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    text = "".join(choice["text"] for choice in choices)
    whole = await context.client.complete(ClientRequest(context.name_of(), RequestSpec(0, (40, 41, 42), max_tokens)))
    if text != whole.choices[0].text:
        raise CheckFailedError(
            f"a stream that the client read only after the engine was idle has the text {text!r}, but the same "
            f"request without streaming got {whole.choices[0].text!r}"
        )
    return "the engine finished before the client read anything, and the client got the complete text"


@check
async def silent_connections(context: CaseContext, connections: int = 50) -> str:
    """Check that the server answers while other clients keep connections open and send nothing."""
    opened = [await _connected(context) for _ in range(connections)]
    try:
        if not await context.client.healthy():
            raise CheckFailedError(f"the server does not answer while {connections} silent connections are open")
    finally:
        for _, writer in opened:
            writer.close()
    return f"the server answers while {connections} silent connections are open"


@check
async def bytes_that_are_no_http(context: CaseContext) -> str:
    """Check that the server refuses bytes that are not valid HTTP, and still answers the next client."""
    for invalid in (b"\x00\x01\x02\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 5000):
        reader, writer = await _connected(context)
        writer.write(invalid)
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(200), SECONDS)
        writer.close()
        if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            raise CheckFailedError(f"{invalid[:20]!r} was answered with {answer[:60]!r}, expected status 4xx or 5xx")
    if not await context.client.healthy():
        raise CheckFailedError("the server no longer answers")
    return "the server refused all invalid requests, and still answers valid ones"


@check
async def body_that_never_comes(context: CaseContext) -> str:
    """Check that a client that disconnects in the middle of its request's body leaves no blocks in use."""
    for _ in range(5):
        _, writer = await _connected(context)
        writer.write(_streaming(5)[:-10])
        await writer.drain()
        writer.close()
    await _until_idle(context)
    if not await context.client.healthy():
        raise CheckFailedError("the server no longer answers")
    return "no requests run, no blocks are in use, and the server still answers requests"


@check
async def connects_and_leaves(context: CaseContext, times: int = 60) -> str:
    """Check that clients that disconnect soon after sending a request leave no blocks in use.

    Every third client disconnects after the first event of its stream, the others before they receive anything.
    """
    for i in range(times):
        reader, writer = await _connected(context)
        writer.write(_streaming(200))
        await writer.drain()
        if i % 3 == 0:
            await reader.readuntil(b"data: ")
        writer.transport.abort() if i % 2 else writer.close()
    await _until_idle(context)
    return f"{times} clients disconnected; afterwards no requests run and no blocks are in use"


@check
async def batch_fills_up_and_no_more(context: CaseContext, batch: int = 2, clients: int = 3) -> str:
    """Check that at most ``batch`` requests run at the same time, and that the others wait and run later."""
    opened = [await _connected(context) for _ in range(clients)]
    for _, writer in opened:
        writer.write(_streaming(440))  # As long as the context allows, so that a busy machine sees them run.
        await writer.drain()
    await _until(context, Wait(running=batch))
    state = await context.client.state()
    if state.running != batch or (state.waiting or 0) > clients - batch:
        raise CheckFailedError(
            f"expected {batch} running and {clients - batch} waiting requests, but the server reports {state}"
        )
    texts = [(await reader.read()).decode() for reader, _ in opened]
    for _, writer in opened:
        writer.close()
    if not all("data: [DONE]" in text for text in texts):
        raise CheckFailedError("the stream of at least one client ends without [DONE]")
    return f"{batch} requests ran, {clients - batch} waited, and all of them finished"
