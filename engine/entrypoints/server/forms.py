"""The interface for the response formats (completions, chat completions), and the server-sent events of a stream."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from pydantic import BaseModel

from engine.entrypoints.server.errors import from_engine
from engine.entrypoints.server.job import Job
from engine.entrypoints.server.responses import Usage
from engine.request import CompletionOutput

DONE = "data: [DONE]\n\n"
SMALLEST_LOGPROB = -9999.0
"""The logprob that is sent for minus infinity, which JSON cannot represent."""


class Form(Protocol):
    """The interface of the two classes that write responses: one for ``/v1/completions``, one for chat completions."""

    def whole(self, outputs: Sequence[CompletionOutput]) -> BaseModel:
        """Return the body of a response that is not streamed. ``outputs`` are the complete answers."""

    def opening(self) -> Iterable[BaseModel]:
        """Return the chunks of a stream that are sent before the first token."""

    def chunk(self, delta: CompletionOutput) -> BaseModel:
        """Return the chunk of a stream for a delta of one answer."""

    def closing(self, usage: Usage) -> BaseModel:
        """Return the last chunk of a stream whose request has ``include_usage``."""


async def events(job: Job, form: Form, *, include_usage: bool, every_token: bool) -> AsyncIterator[str]:
    """Yield the server-sent events of a job. If the job fails, the last event is the error and ``[DONE]`` is not sent.

    With ``every_token`` there is an event for every delta. Otherwise deltas without text are left out.
    """
    completion_tokens = 0
    try:
        for chunk in form.opening():
            yield event(chunk)
        while new := await job.collector.take():
            for index in sorted(new):
                delta = new[index]
                completion_tokens += len(delta.token_ids)
                if delta.text or delta.finish_reason or every_token:
                    yield event(form.chunk(delta))
        if include_usage:
            yield event(form.closing(job.usage(completion_tokens)))
        yield DONE
    except Exception as error:
        yield event(from_engine(error).body)


def event(body: BaseModel) -> str:
    return f"data: {body.model_dump_json()}\n\n"


def for_json(logprob: float) -> float:
    return max(logprob, SMALLEST_LOGPROB)
