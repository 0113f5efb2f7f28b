"""Wait until the engine, or an action in the background, is in a certain state. Every wait has a timeout."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from harness.cases.behaviour.context import SECONDS, CaseContext
from harness.drivers.client import ClientError, ServingState
from harness.suites.schema import Wait

POLL_SECONDS = 0.01


async def eventually(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until ``holds()`` is True. Return True then, or False if this takes longer than 60 s (``SECONDS``)."""
    give_up = time.monotonic() + SECONDS
    while not await holds():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def wait_for(context: CaseContext, wait: Wait) -> str | None:
    """Wait until the condition of a ``wait`` action holds, and return None.

    Return an error message if the condition does not hold before a timeout, or holds later than the action allows.
    """
    if wait.end_of is not None:
        done, _ = await asyncio.wait([context.background[wait.end_of].task], timeout=SECONDS)
        return None if done else f"{wait.end_of} did not end within {SECONDS} s"
    if wait.of is not None and wait.chunks is not None:
        return await _chunks(context, wait.of, wait.chunks)
    wanted = {name: getattr(wait, name) for name in ("running", "waiting", "tkv", "used_blocks", "reserved_blocks")}
    last: list[ServingState] = []

    async def holds() -> bool:
        try:
            last[:] = [await context.client.state()]
        except ClientError:
            return False  # The server does not answer while it restarts.
        state = last[0]
        counts = all(right is None or getattr(state, name) == right for name, right in wanted.items())
        return counts and (not wait.idle or state.idle)

    if await eventually(holds):
        return _in_time(context, wait)
    state = last[0] if last else "the server did not answer"
    return f"the condition ({_shown(wait)}) was not met within {SECONDS} s; last state: {state}"


def _in_time(context: CaseContext, wait: Wait) -> str | None:
    """Return an error message if the condition of a ``wait`` action was met too late, None if it was met in time.

    ``wait.of`` names a background action. Too late means: after this action received ``wait.before_tokens`` tokens.
    """
    if wait.of is None or wait.before_tokens is None:
        return None
    had = sum(sum(chunk.tokens.values()) for chunk in context.background[wait.of].chunks)
    if had < wait.before_tokens:
        return None
    return f"the condition ({_shown(wait)}) was met too late: {wait.of} had already received {had} tokens"


async def _chunks(context: CaseContext, name: str, count: int) -> str | None:
    background = context.background[name]

    async def enough() -> None:
        async with background.received:
            await background.received.wait_for(lambda: len(background.chunks) >= count)

    waiting = asyncio.create_task(enough())
    done, _ = await asyncio.wait([waiting, background.task], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if waiting in done or len(background.chunks) >= count:
        return None
    if background.task in done:
        result = background.task.result()
        why = f": {result}" if isinstance(result, ClientError) else ""
        return f"{name} ended after {len(background.chunks)} chunks, expected {count}{why}"
    return f"{name} sent {len(background.chunks)} of {count} chunks within {SECONDS} s"


def _shown(wait: Wait) -> str:
    return ", ".join(f"{name} {value}" for name, value in wait.model_dump(exclude_none=True).items())
