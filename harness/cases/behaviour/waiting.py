"""Wait for conditions, with timeouts."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from harness.cases.behaviour.context import SECONDS, CaseContext
from harness.drivers.client import ClientError, ServingState
from harness.suites.schema import Wait

POLL_SECONDS = 0.01


async def eventually(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether the condition became true in time."""
    give_up = time.monotonic() + SECONDS
    while not await holds():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def wait_for(context: CaseContext, wait: Wait) -> str | None:
    """Return None when the condition holds, or what did not happen in time."""
    if wait.end_of is not None:
        done, _ = await asyncio.wait([context.background[wait.end_of].task], timeout=SECONDS)
        return None if done else f"{wait.end_of} did not end within {SECONDS} s"
    if wait.of is not None and wait.pieces is not None:
        return await _pieces(context, wait.of, wait.pieces)
    wanted = {name: getattr(wait, name) for name in ("running", "waiting", "tkv", "used_blocks", "reserved_blocks")}
    last: list[ServingState] = []

    async def holds() -> bool:
        try:
            last[:] = [await context.client.state()]
        except ClientError:
            return False  # the server is restarting
        state = last[0]
        counts = all(right is None or getattr(state, name) == right for name, right in wanted.items())
        return counts and (not wait.idle or state.idle)

    if await eventually(holds):
        return _in_time(context, wait)
    return f"{_shown(wait)} was not reached within {SECONDS} s; last seen: {last[0] if last else 'no answer'}"


def _in_time(context: CaseContext, wait: Wait) -> str | None:
    """Return None if the condition held before the action ``of`` had ``before_tokens`` tokens, else a message."""
    if wait.of is None or wait.before_tokens is None:
        return None
    had = sum(sum(piece.tokens.values()) for piece in context.background[wait.of].pieces)
    if had < wait.before_tokens:
        return None
    return f"{_shown(wait)} was reached too late, when {wait.of} had {had} tokens"


async def _pieces(context: CaseContext, name: str, count: int) -> str | None:
    background = context.background[name]

    async def enough() -> None:
        async with background.came:
            await background.came.wait_for(lambda: len(background.pieces) >= count)

    waiting = asyncio.create_task(enough())
    done, _ = await asyncio.wait([waiting, background.task], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if waiting in done or len(background.pieces) >= count:
        return None
    if background.task in done:
        result = background.task.result()
        why = f": {result}" if isinstance(result, ClientError) else ""
        return f"{name} ended after {len(background.pieces)} chunks, expected {count}{why}"
    return f"{name} sent {len(background.pieces)} of {count} chunks within {SECONDS} s"


def _shown(wait: Wait) -> str:
    return ", ".join(f"{name} {value}" for name, value in wait.model_dump(exclude_none=True).items())
