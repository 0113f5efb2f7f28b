"""The state of a running behaviour case: its client, the actions in the background, and the results so far."""

import asyncio
from collections.abc import Callable, Sequence
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
    """An action that runs in the background while later actions are performed.

    ``name`` is the name of its request, ``n`` the number of answers requested, and ``number`` the position of the
    action in the case. ``chunks`` are the stream chunks received so far. ``received`` is notified of each chunk.
    """

    name: str
    n: int
    task: "asyncio.Task[Result]"
    chunks: list[StreamChunk]
    received: asyncio.Condition
    number: int


@dataclass
class CaseContext:
    """The state of one running case.

    ``make_request`` converts a request from the suite file to a request for the client, and gives it a unique name.
    ``make_chat`` renders the prompt of a conversation. ``name_of`` returns a new unique request name.

    The keys of ``background`` and ``results`` are names of actions. ``background`` has the actions that still run in
    the background. ``results`` has, for each action that has ended, a list with one result for each of its requests.
    """

    client: Client
    make_request: MakeRequest
    make_chat: MakeChat
    name_of: Callable[[], str]
    background: dict[str, Background] = field(default_factory=dict)
    results: dict[str, Sequence[Result]] = field(default_factory=dict)

    def request(self, call: Call | StreamCall) -> ClientRequest:
        """Convert a call (the request that an action of the suite file sends) to a request for the client."""
        request = self.make_request(call)
        return ClientRequest(
            request.name,
            request.spec,
            call.n,
            call.model,
            kind=getattr(call, "kind", "delta"),
            logprobs=call.logprobs,
            echo=call.echo,
        )

    def chat_request(self, chat: Chat) -> ClientRequest:
        """Convert a conversation from the suite file to a request for the client.

        The request has the messages, and also the prompt that the model's chat template renders from the messages.
        """
        return ClientRequest(
            self.name_of(), self.make_chat(chat), messages=tuple((m.role, m.content) for m in chat.messages)
        )


async def whole(client: Client, request: ClientRequest) -> Result:
    """Send a request without streaming. Return its answer, or the ClientError if the request fails."""
    try:
        return await client.complete(request)
    except ClientError as error:
        return error


async def streamed(
    client: Client,
    request: ClientRequest,
    leave_after: int | None = None,
    chunks: list[StreamChunk] | None = None,
    received: asyncio.Condition | None = None,
) -> Result:
    """Stream a request. Return the answer assembled from its chunks, or the ClientError if the request fails.

    The client disconnects after ``leave_after`` chunks; with None, it receives the whole stream. For each chunk that
    arrives, the chunk is appended to ``chunks``, and then the tasks that wait on ``received`` are notified.
    """
    chunks = [] if chunks is None else chunks
    stream = client.stream(request)
    try:
        if leave_after == 0:
            return assembled([], request.n)
        async for chunk in stream:
            chunks.append(chunk)
            if received is not None:
                async with received:
                    received.notify_all()
            if leave_after is not None and len(chunks) >= leave_after:
                break
    except ClientError as error:
        return error
    finally:
        await stream.aclose()
    return assembled(chunks, request.n)
