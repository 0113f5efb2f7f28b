"""The state of a running behaviour case: its client, its requests, and results so far."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.drivers.client import Answer, Client, ClientError, ClientRequest, RawAnswer, StreamChunk
from harness.drivers.streams import assembled
from harness.suites.schema import Call, Chat, Request, StreamCall
from harness.types import RequestSpec

SECONDS = 60
"""Timeout of each wait, in seconds."""

MakeRequest = Callable[[Request], ClientRequest]
MakeChat = Callable[[Chat], RequestSpec]
Result = Answer | ClientError | RawAnswer


@dataclass
class Background:
    """An action that runs in the background. ``pieces`` are the chunks that its client has received so far."""

    name: str
    n: int
    task: "asyncio.Task[Result]"
    pieces: list[StreamChunk]
    came: asyncio.Condition
    number: int


@dataclass
class CaseContext:
    """The state of one case. ``results`` are by action name.

    ``make_request`` gives each request of the case its own prompt, name and position; ``make_chat`` renders the prompt
    of a conversation.
    """

    client: Client
    make_request: MakeRequest
    make_chat: MakeChat
    name_of: Callable[[], str]
    background: dict[str, Background] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    def request(self, call: Call | StreamCall) -> ClientRequest:
        """Return a call as a client request."""
        request = self.make_request(call)
        return ClientRequest(
            request.name, request.spec, call.n, call.model, kind=getattr(call, "kind", "delta"), logprobs=call.logprobs
        )

    def chat_request(self, chat: Chat) -> ClientRequest:
        """Return a conversation as a client request.

        Its spec has the prompt rendered with the model's chat template.
        """
        return ClientRequest(
            self.name_of(), self.make_chat(chat), messages=tuple((m.role, m.content) for m in chat.messages)
        )


async def whole(client: Client, request: ClientRequest) -> Result:
    """Return the answer, or the error instead."""
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
    """Return the assembled answer of a stream, up to where its client disconnected.

    ``came`` is notified of each chunk.
    """
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
