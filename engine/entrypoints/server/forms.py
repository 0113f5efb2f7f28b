"""The response of both APIs, each in its own form: as a whole or as chunks of a stream."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from pydantic import BaseModel

from engine.entrypoints.server.errors import from_engine
from engine.entrypoints.server.job import Job
from engine.entrypoints.server.responses import Usage
from engine.request import CompletionOutput

DONE = "data: [DONE]\n\n"
SMALLEST_LOGPROB = -9999.0
"""JSON has no infinity."""


class Form(Protocol):
    """The response format of an API."""

    def whole(self, outputs: Sequence[CompletionOutput]) -> BaseModel:
        """Return the response with all answers, which have ended."""

    def opening(self) -> Iterable[BaseModel]:
        """Return the chunks before the first token."""

    def chunk(self, delta: CompletionOutput) -> BaseModel:
        """Return the chunk with the new part of one answer."""

    def closing(self, usage: Usage) -> BaseModel:
        """Return the chunk after the last token, for ``include_usage``."""


async def events(job: Job, form: Form, *, include_usage: bool, every_token: bool) -> AsyncIterator[str]:
    """Yield the server-sent events of a job. An error is the last event, without ``[DONE]`` after it.

    With ``every_token``, deltas without text (their characters are held back) are events, too.
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
