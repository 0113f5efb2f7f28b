"""AsyncLLM, the API for asyncio: one stream of outputs per request. A slow client does not delay the engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from engine.build import Engine, build_engine
from engine.config import EngineConfig, Limits, ResolvedLimits, resolve_limits
from engine.entrypoints.deltas import merged
from engine.entrypoints.engine_thread import (
    EngineBusyError,
    EngineDeadError,
    EngineStoppedError,
    EngineThread,
    Observer,
)
from engine.entrypoints.output_queue import OutputQueue, RequestOutputCollector
from engine.entrypoints.prompts import Admitted, Prompt, admitted, check_prompt_logprobs, requests_for
from engine.request import CompletionOutput, RequestOutput, RequestOutputKind, SamplingParams
from engine.scheduling.plan import SchedulerState

T = TypeVar("T")
Result = TypeVar("Result")

ENCODERS = 2
"""The number of threads that encode prompts and compile grammars.

Encoding a long prompt takes a second, which must not block the event loop.
"""


class QueueFullError(RuntimeError):
    """A request would exceed ``max_unfinished``. The same request may be accepted later."""


class AsyncLLM:
    """An engine in a thread of its own, with ``generate`` for asyncio.

    ``model`` is an engine that is already built, or the name of a model; with a name, ``config`` has further arguments
    of EngineConfig. A caller that passes a built engine must not use it until ``shutdown`` has returned, and must close
    it afterwards. ``max_unfinished`` is the maximum number of unfinished answers, including waiting ones; None means
    unlimited. ``observers`` receive every step record (engine_thread.Observer).

    Raises ConfigError if ``config`` is invalid, and the errors of ``build_engine``.
    """

    def __init__(
        self,
        model: str | Engine = "tiny-granite",
        *,
        max_unfinished: int | None = None,
        observers: Sequence[Observer] = (),
        **config: Any,
    ) -> None:
        self._built_here = isinstance(model, str)
        self.engine = build_engine(EngineConfig(model=model, **config)) if isinstance(model, str) else model
        self.engine.tokenizer.load()  # so that the first request does not wait for it
        self.max_unfinished = max_unfinished
        workers = self.engine.workers
        self._thread = EngineThread(self.engine.core, observers, None if workers is None else workers.check)
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="tokenizer")
        self._limits = self.engine.core.limits
        self._open: dict[RequestOutputCollector, tuple[str, list[str]]] = {}

    @property
    def dead(self) -> EngineDeadError | EngineStoppedError | None:
        """Return the error that ended the engine; None while the engine runs."""
        return self._thread.end

    @property
    def limits(self) -> ResolvedLimits:
        return self._limits

    @property
    def unfinished(self) -> int:
        """Return the number of unfinished answers, including waiting ones."""
        return sum(collector.unfinished for collector in self._open)

    def state(self) -> SchedulerState:
        """Return the scheduler's state after the last step."""
        return self._thread.seen

    async def generate(
        self, prompt: Prompt, sampling_params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yield the outputs of a request. ``sampling_params.output_kind`` selects what each output contains.

        CUMULATIVE: each output has all ``n`` answers so far; the last one equals the output of LLM.generate. DELTA:
        each output has the new part of every answer that grew. FINAL_ONLY: there is one output, at the end. If the
        client is slower than the engine, an output has several new tokens of an answer. Closing the generator, or
        cancelling the task that waits for its next output, aborts the request.

        Before the first output, raises RequestRefusedError if the engine can't run the request, SamplingParamsError if
        its structured outputs are invalid, ValueError if the id is in use, and QueueFullError if ``max_unfinished``
        would be exceeded. At any time, raises EngineDeadError or EngineStoppedError if the engine ends,
        OutOfBlocksError if the request can never run, and StructuredOutputsError if its grammar accepts no further
        tokens.
        """
        ready = await self.prepare(prompt, sampling_params)
        collector = self.submit([ready], request_id)
        text, kind = prompt if isinstance(prompt, str) else None, sampling_params.output_kind
        so_far: dict[int, CompletionOutput] = {}
        try:
            if kind is RequestOutputKind.FINAL_ONLY:
                yield RequestOutput(request_id, text, ready.token_ids, tuple(await collector.take_all()), True)
                return
            while new := await collector.take():
                so_far.update({i: merged(so_far[i], delta) if i in so_far else delta for i, delta in new.items()})
                outputs = new if kind is RequestOutputKind.DELTA else so_far
                answers = tuple(outputs[index] for index in sorted(outputs))
                yield RequestOutput(request_id, text, ready.token_ids, answers, collector.unfinished == 0)
        finally:
            collector.close()

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of ``text``, computed in a thread."""
        return await self._in_thread(self.engine.tokenizer.encode, text)

    async def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Return the token ids of a conversation, computed in a thread by Tokenizer.encode_chat.

        Raises ChatTemplateError if the model has no chat template, or if the template rejects ``messages``.
        """
        return await self._in_thread(self.engine.tokenizer.encode_chat, messages)

    async def prepare(self, prompt: Prompt, params: SamplingParams) -> Admitted:
        """Check a prompt, and return its token ids and parameters for ``submit``.

        Raises RequestRefusedError if the request does not fit the context, has a token id outside the vocabulary, or
        needs logprobs that the backend does not have; and SamplingParamsError if its structured outputs cannot be
        compiled, or forbid one of ``golden_token_ids``.
        """
        check_prompt_logprobs(self.engine.core.config, params)
        if params.structured_outputs is not None:
            await self._in_thread(self.engine.core.check_grammar, params)
        if isinstance(prompt, str):
            prompt = {"prompt_token_ids": await self.encode(prompt)}
        padded = self.engine.core.config.pads_prompts
        return admitted(prompt, params, self.engine.tokenizer, self._limits.max_model_len, padded=padded)

    async def _in_thread(self, function: Callable[[T], Result], argument: T) -> Result:
        if self.dead is not None:
            raise self.dead
        return await asyncio.get_running_loop().run_in_executor(self._encoders, function, argument)

    def submit(self, prompts: Sequence[Admitted], request_id: str) -> RequestOutputCollector:
        """Queue the prompts of one request, all or none, and return the collector of their answers.

        Answer ``i`` of prompt ``p`` has the number ``p * n + i`` in the collector. The caller must close the collector.
        Raises ValueError if the id is in use, QueueFullError if ``max_unfinished`` would be exceeded, and
        EngineDeadError or EngineStoppedError if the engine has ended.
        """
        if any(taken == request_id for taken, _ in self._open.values()):
            raise ValueError(f"request id {request_id} is already in use")
        requests = [
            request
            for number, prompt in enumerate(prompts)
            for request in requests_for(request_id if len(prompts) == 1 else f"{request_id}-{number}", prompt)
        ]
        under_way = self.unfinished
        if self.max_unfinished is not None and under_way + len(requests) > self.max_unfinished:
            raise QueueFullError(
                f"{under_way} sequences are unfinished and {len(requests)} more were requested, "
                f"but this engine accepts at most {self.max_unfinished} unfinished sequences: try again later"
            )
        collector = RequestOutputCollector(len(requests), self._close)
        tokenizer = self.engine.tokenizer
        for index, request in enumerate(requests):
            self._thread.add(request, OutputQueue(collector, index, request.sampling_params, tokenizer))
        self._open[collector] = (request_id, [request.request_id for request in requests])
        return collector

    def _close(self, collector: RequestOutputCollector) -> None:
        _, request_ids = self._open.pop(collector)
        if collector.unfinished:
            with suppress(EngineDeadError, EngineStoppedError):  # the requests ended with the engine
                self._thread.abort(request_ids)

    async def abort(self, request_id: str) -> None:
        """Abort a request: its last output has the finish reason ``abort``. Does nothing if the request has ended."""
        for taken, request_ids in list(self._open.values()):
            if taken == request_id:
                await asyncio.wrap_future(self._thread.abort(request_ids))

    async def reset(self, limits: Limits) -> ResolvedLimits:
        """Abort every request and set new limits. Raises ConfigError if the engine can't have these limits."""
        self._limits = await asyncio.wrap_future(self._thread.reset(limits))
        return self._limits

    async def tighten(self, limits: Limits) -> ResolvedLimits:
        """Set new limits while the engine is idle.

        Raises ConfigError if the engine can't have these limits. Raises EngineBusyError, and changes nothing, if a
        request is unfinished, a collector of ``submit`` is not closed, or a block is in use.
        """
        resolved = resolve_limits(self.engine.core.config, limits)
        if self._open:
            raise EngineBusyError(f"responses that are not closed: {len(self._open)}")
        self._limits = await asyncio.wrap_future(self._thread.tighten(resolved))
        return self._limits

    async def idle(self) -> None:
        """Wait until no request is unfinished and every block is free.

        Raises EngineDeadError or EngineStoppedError if the engine ends first.
        """
        await asyncio.wrap_future(self._thread.when_idle())

    def shutdown(self, timeout: float | None = 10) -> None:
        """Stop the engine's thread after the current step, and wait for it at most ``timeout`` seconds. Idempotent.

        Unfinished requests fail with EngineStoppedError. An engine that was built by this object is closed.
        """
        self._thread.stop(timeout)
        self._encoders.shutdown(wait=False, cancel_futures=True)
        if self._built_here:
            self.engine.close()
