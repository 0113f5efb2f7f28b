"""The client for a reference engine in this process, for cases that send requests and check the answers.

It sends single requests to the engine's AsyncLLM, and lists of requests (``generate``) to the engine's LLM.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from engine.build import Engine
from engine.entrypoints.async_llm import AsyncLLM, QueueFullError
from engine.entrypoints.engine_thread import EngineDeadError, EngineStoppedError
from engine.entrypoints.validation import RequestRefusedError
from engine.request import CompletionOutput, RequestOutput, RequestOutputKind, SamplingParamsError
from harness.drivers.client import (
    ABORT,
    Answer,
    Choice,
    ClientError,
    ClientRequest,
    Logprobs,
    RawAnswer,
    ServingState,
    StreamChunk,
)
from harness.drivers.offline import generate_answers
from harness.drivers.optional import OfflineSession
from harness.drivers.reference.core_session import listed_logprobs, prompt_values, sampling_params

KINDS = {
    "delta": RequestOutputKind.DELTA,
    "cumulative": RequestOutputKind.CUMULATIVE,
    "final": RequestOutputKind.FINAL_ONLY,
}
REFUSALS = (RequestRefusedError, SamplingParamsError, QueueFullError, EngineDeadError, EngineStoppedError)


class ReferenceClient:
    """A client of the reference engine in this process.

    ``max_queue`` is the maximum number of waiting requests, None for no maximum. AsyncLLM's thread is started by the
    first request and ended by ``leave``.
    """

    capabilities = frozenset({ABORT})

    def __init__(self, engine: Engine, session: OfflineSession, max_queue: int | None = None) -> None:
        self._engine = engine
        self._session = session
        self._max_queue = max_queue
        self._llm: AsyncLLM | None = None

    def _open(self) -> AsyncLLM:
        if self._llm is None:
            batch = self._engine.core.limits.max_num_seqs
            most = None if self._max_queue is None else batch + self._max_queue
            self._llm = AsyncLLM(self._engine, max_unfinished=most)
        return self._llm

    async def complete(self, request: ClientRequest) -> Answer:
        outputs = [output async for output in self._outputs(request, RequestOutputKind.FINAL_ONLY)]
        return _answer(outputs[-1])

    async def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        seen: dict[int, tuple[int, int]] = {}
        async with aclosing(self._outputs(request, KINDS[request.kind])) as outputs:
            async for output in outputs:
                yield _new_of(output, seen, cumulative=request.kind != "delta")

    async def _outputs(self, request: ClientRequest, kind: RequestOutputKind) -> AsyncGenerator[RequestOutput, None]:
        llm = self._open()
        try:
            prompt = request.spec.prompt_token_ids
            if request.messages:
                prompt = await llm.encode_chat([{"role": role, "content": text} for role, text in request.messages])
            params = sampling_params(request.spec, n=request.n, output_kind=kind, logprobs=request.logprobs)
            async with aclosing(llm.generate({"prompt_token_ids": prompt}, params, request.name)) as outputs:
                async for output in outputs:
                    yield output
        except REFUSALS as error:
            raise ClientError(str(error)) from error

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        """End AsyncLLM's thread, run the requests through the engine's offline API (LLM), and return the answers."""
        await self.leave()
        return generate_answers(self._session, requests)

    async def abort(self, name: str) -> None:
        await self._open().abort(name)

    async def call(self, method: str, path: str, content: Any) -> RawAnswer:
        raise NotImplementedError("an engine in this process has no server to send HTTP requests to")

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        raise NotImplementedError("an engine in this process has no server to send HTTP requests to")

    async def state(self) -> ServingState:
        seen = self._engine.core.state() if self._llm is None else self._llm.state()
        return ServingState(len(seen.waiting), len(seen.running), seen.n_used_blocks, seen.n_reserved_blocks)

    async def metrics(self) -> dict[str, int]:
        raise NotImplementedError("an engine in this process has no server with metrics")

    async def healthy(self) -> bool:
        return self._llm is None or self._llm.dead is None

    async def restart(self, how: str) -> None:
        raise NotImplementedError("an engine in this process has no server to restart")

    @property
    def url(self) -> str:
        raise NotImplementedError("an engine in this process has no server with a URL")

    async def leave(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    def close(self) -> None:
        pass


def _answer(output: RequestOutput) -> Answer:
    choices = tuple(_choice(answer, output.prompt_token_ids) for answer in output.outputs)
    return Answer(choices, (len(output.prompt_token_ids), sum(c.tokens or 0 for c in choices)))


def _choice(answer: CompletionOutput, prompt: Sequence[int]) -> Choice:
    reason = answer.finish_reason and str(answer.finish_reason)
    of_prompt, alternatives = prompt_values(answer.prompt_logprobs, prompt)
    choice = Choice(
        answer.text, len(answer.token_ids), reason, prompt_logprobs=of_prompt, prompt_alternatives=alternatives
    )
    if answer.logprobs is None:
        return choice
    own = tuple(at[token].logprob for at, token in zip(answer.logprobs, answer.token_ids, strict=True))
    return replace(choice, logprobs=own, alternatives=tuple(map(listed_logprobs, answer.logprobs)))


def _new_of(output: RequestOutput, seen: dict[int, tuple[int, int]], *, cumulative: bool) -> StreamChunk:
    """Convert an output of AsyncLLM to a chunk with the text and tokens that earlier outputs of the request lack.

    ``cumulative`` is whether each output contains the whole answer so far. ``seen`` has, for each answer, the number of
    characters and of tokens in the previous output. This function updates it for ``output``.
    """
    texts, tokens, reasons = {}, {}, {}
    logprobs: dict[int, Logprobs] = {}
    of_prompts: dict[int, Logprobs | None] = {}
    for answer in output.outputs:
        characters, count = seen.get(answer.index, (0, 0)) if cumulative else (0, 0)
        texts[answer.index] = answer.text[characters:]
        tokens[answer.index] = len(answer.token_ids) - count
        choice = _choice(answer, output.prompt_token_ids)
        if choice.logprobs is not None:
            logprobs[answer.index] = Logprobs(choice.logprobs[count:], choice.alternatives[count:])
        of_prompt = choice.prompt_logprobs
        if cumulative or of_prompt is not None:
            of_prompts[answer.index] = None if of_prompt is None else Logprobs(of_prompt, choice.prompt_alternatives)
        seen[answer.index] = (len(answer.text), len(answer.token_ids))
        if answer.finish_reason is not None:
            reasons[answer.index] = str(answer.finish_reason)
    return StreamChunk(texts, tokens, reasons, logprobs=logprobs, prompt_logprobs=of_prompts)
