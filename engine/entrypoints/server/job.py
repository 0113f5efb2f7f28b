"""The state that all request handlers share (Service), and an HTTP request in progress (Job)."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.output_queue import RequestOutputCollector
from engine.entrypoints.prompts import Admitted, truncated
from engine.entrypoints.server.errors import MAX_NAME, ApiError, bad_request, shortened, try_again
from engine.entrypoints.server.responses import Usage
from engine.entrypoints.validation import RequestRefusedError
from engine.request import CompletionOutput, SamplingParams


@dataclass(frozen=True)
class AppSettings:
    """The settings against which ``Gate`` checks requests. With ``api_key`` None no key is required."""

    api_key: str | None = None
    max_body_bytes: int = 2**20


@dataclass
class Service:
    """The objects that every request handler needs.

    ``draining`` is set once, when the server begins to shut down. Only ``POST /admin/limits`` (admin.py) changes
    ``settings``. ``created`` is the Unix time at which the server started.
    """

    llm: AsyncLLM
    model: str
    settings: AppSettings = AppSettings()
    created: int = field(default_factory=lambda: int(time.time()))
    draining: bool = False

    def check_open(self) -> None:
        """Raise ApiError (503) if the server is shutting down or the engine has ended."""
        if self.draining:
            raise try_again(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down", "shutting_down")
        if self.llm.dead is not None:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(self.llm.dead), code="engine_dead")

    def check_model(self, name: str | None) -> None:
        """Raise ApiError (404) if ``name`` is not the model of this server."""
        if name is not None and name != self.model:
            message = f"The model {shortened(name, MAX_NAME)!r} does not exist here: this server has {self.model!r}."
            raise ApiError(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")


@dataclass(frozen=True)
class Fields:
    """The names of the fields of a request body that contain the prompt and the maximum number of new tokens."""

    prompt: str
    max_tokens: str = "max_tokens"

    def wrong(self, refusal: RequestRefusedError) -> str:
        """Return the field of the request's body that ``refusal`` is about, for the ``param`` of the error response."""
        return {None: self.prompt, "max_tokens": self.max_tokens}.get(refusal.field, refusal.field or self.prompt)


@dataclass(frozen=True)
class Job:
    """An HTTP request in progress, with one or several prompts.

    Answer ``i`` of prompt ``p`` has the number ``p * n + i``. The handler of the request must close ``collector``.
    """

    id: str
    created: int
    model: str
    prompts: tuple[Admitted, ...]
    collector: RequestOutputCollector

    def prompt_of(self, index: int) -> Admitted:
        return self.prompts[index // self.prompts[0].params.n]

    def usage(self, completion_tokens: int) -> Usage:
        prompt_tokens = sum(len(prompt.token_ids) for prompt in self.prompts)
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        )


async def start(
    service: Service, kind: str, prompts: Sequence[tuple[int, ...]], params: SamplingParams, fields: Fields
) -> Job:
    """Check the prompts of a request and queue all of them, or none if one is refused.

    ``fields`` has the names of the body's fields for error responses. The id of the response begins with ``kind``.
    Raises ApiError if a prompt is refused, if there are more answers than the server accepts, or if the server is
    shutting down; SamplingParamsError as AsyncLLM.prepare does; and the errors of AsyncLLM.submit.
    """
    llm = service.llm
    longest, padded = llm.limits.max_model_len, llm.engine.core.config.pads_prompts
    try:
        prompts = [truncated(token_ids, params, longest, padded=padded) for token_ids in prompts]
    except RequestRefusedError as refusal:
        raise bad_request(str(refusal), fields.wrong(refusal), "request_refused") from refusal
    for token_ids in prompts:
        _check_context(token_ids, longest, fields.prompt)
        if not padded:
            _check_unpadded_budget(len(token_ids), params.max_tokens, longest, fields.max_tokens)
    try:
        admitted = [await llm.prepare({"prompt_token_ids": token_ids}, params) for token_ids in prompts]
    except RequestRefusedError as refusal:
        raise bad_request(str(refusal), fields.wrong(refusal), "request_refused") from refusal
    wanted, most = len(admitted) * params.n, llm.max_unfinished
    if most is not None and wanted > most:
        raise bad_request(
            f"{len(admitted)} prompts with n {params.n} are {wanted} sequences, "
            f"but this server accepts at most {most}: send fewer prompts or reduce n",
            "n" if len(admitted) == 1 else fields.prompt,
        )
    service.check_open()
    request_id = f"{kind}-{uuid.uuid4().hex}"
    return Job(request_id, int(time.time()), service.model, tuple(admitted), llm.submit(admitted, request_id))


def _check_context(token_ids: tuple[int, ...], max_model_len: int, param: str) -> None:
    """Raise ApiError if a prompt leaves no room for a new token, as vLLM's server does. Padding is not counted.

    AsyncLLM.prepare later refuses prompts that do not fit because of their padding.
    """
    if len(token_ids) >= max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt has "
            f"{len(token_ids)} tokens. Please reduce its length.",
            param,
            "context_length_exceeded",
        )


def _check_unpadded_budget(prompt_length: int, max_tokens: int | None, max_model_len: int, param: str) -> None:
    """Raise ApiError if prompt and ``max_tokens`` together exceed the context, as vLLM's server does.

    The check is for schedulers that do not pad prompts. With these, LLM and AsyncLLM accept a request that exceeds the
    context, and end it when the context is full.
    """
    if max_tokens is not None and prompt_length + max_tokens > max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {max_tokens} "
            f"output tokens and your prompt contains {prompt_length} input tokens. Please reduce one of them.",
            param,
            "context_length_exceeded",
        )


def tokens_in(outputs: Sequence[CompletionOutput]) -> int:
    return sum(len(output.token_ids) for output in outputs)
