"""What one behaviour case has at hand while it runs: the client, the requests it makes, what came of them so far."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.drivers.client import Answer, Client, ClientError, ClientRequest, RawAnswer, StreamChunk
from harness.drivers.streams import assembled
from harness.suites.schema import Call, Chat, Request, StreamCall
from harness.types import RequestSpec

SECONDS = 60
"""How long anything may take that must come to an end."""

MakeAsk = Callable[[Request], ClientRequest]
MakeChat = Callable[[Chat], RequestSpec]
Result = Answer | ClientError | RawAnswer


@dataclass
class Background:
    """An action that goes on while the case goes on. ``pieces`` are those that came to its client so far."""

    name: str
    n: int
    task: "asyncio.Task[Result]"
    pieces: list[StreamChunk]
    came: asyncio.Condition
    number: int


@dataclass
class CaseContext:
    """``make_request`` gives each request of the case its own prompt, name and place, ``make_chat`` a conversation its
    prompt; ``results`` are by action name.
    """

    client: Client
    make_request: MakeAsk
    make_chat: MakeChat
    name_of: Callable[[], str]
    background: dict[str, Background] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def request(self, call: Call | StreamCall) -> ClientRequest:
        """A call as the client takes it."""
        request = self.make_request(call)
        return ClientRequest(
            request.name, request.spec, call.n, call.model, kind=getattr(call, "kind", "delta"), logprobs=call.logprobs
        )

    def chat_request(self, chat: Chat) -> ClientRequest:
        """A conversation as the client takes it; its spec has the prompt that the model's template makes of it."""
        return ClientRequest(
            self.name_of(), self.make_chat(chat), messages=tuple((m.role, m.content) for m in chat.messages)
        )


async def whole(client: Client, request: ClientRequest) -> Result:
    """The answer, or the error in its place."""
    try:
        return await client.complete(request)
    except ClientError as error:
        return error


async def streamed(
    client: Client,
    request: ClientRequest,
    leave_after: int | None = None,
    pieces: list[StreamChunk] | None = None,
    came: asyncio.Condition | None = None,
) -> Result:
    """A stream put together, up to where its client went away if it did. ``came`` is told of each piece."""
    pieces = [] if pieces is None else pieces
    stream = client.stream(request)
    try:
        if leave_after == 0:
            return assembled([], request.n)
        async for piece in stream:
            pieces.append(piece)
            if came is not None:
                async with came:
                    came.notify_all()
            if leave_after is not None and len(pieces) >= leave_after:
                break
    except ClientError as error:
        return error
    finally:
        await stream.aclose()
    return assembled(pieces, request.n)
