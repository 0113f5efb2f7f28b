"""What one behaviour case has at hand while it runs: the door, the requests it makes, what came of them so far."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.drivers.door import Answer, Ask, Door, DoorError, Piece, RawAnswer
from harness.drivers.streams import assembled
from harness.suites.schema import Call, Chat, Request, StreamCall
from harness.types import RequestSpec

SECONDS = 60
"""How long anything may take that must come to an end."""

MakeAsk = Callable[[Request], Ask]
MakeChat = Callable[[Chat], RequestSpec]
Result = Answer | DoorError | RawAnswer


@dataclass
class Background:
    """An action that goes on while the case goes on. ``pieces`` are those that came to its client so far."""

    name: str
    n: int
    task: "asyncio.Task[Result]"
    pieces: list[Piece]
    came: asyncio.Condition
    number: int


@dataclass
class Scene:
    """``make_ask`` gives each request of the case its own prompt, name and place, ``make_chat`` a conversation its
    prompt; ``results`` are by action name.
    """

    door: Door
    make_ask: MakeAsk
    make_chat: MakeChat
    name_of: Callable[[], str]
    background: dict[str, Background] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def ask(self, call: Call | StreamCall) -> Ask:
        """A call as the door takes it."""
        ask = self.make_ask(call)
        return Ask(ask.name, ask.spec, call.n, call.model, kind=getattr(call, "kind", "delta"), logprobs=call.logprobs)

    def ask_chat(self, chat: Chat) -> Ask:
        """A conversation as the door takes it; its spec has the prompt that the model's template makes of it."""
        return Ask(self.name_of(), self.make_chat(chat), messages=tuple((m.role, m.content) for m in chat.messages))


async def whole(door: Door, ask: Ask) -> Result:
    """The answer, or the error in its place."""
    try:
        return await door.complete(ask)
    except DoorError as error:
        return error


async def streamed(
    door: Door,
    ask: Ask,
    leave_after: int | None = None,
    pieces: list[Piece] | None = None,
    came: asyncio.Condition | None = None,
) -> Result:
    """A stream put together, up to where its client went away if it did. ``came`` is told of each piece."""
    pieces = [] if pieces is None else pieces
    stream = door.stream(ask)
    try:
        if leave_after == 0:
            return assembled([], ask.n)
        async for piece in stream:
            pieces.append(piece)
            if came is not None:
                async with came:
                    came.notify_all()
            if leave_after is not None and len(pieces) >= leave_after:
                break
    except DoorError as error:
        return error
    finally:
        await stream.aclose()
    return assembled(pieces, ask.n)
