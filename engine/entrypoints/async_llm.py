"""The async API: many clients, each with a stream of its own, and an engine that never waits for them."""

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
from engine.entrypoints.prompts import Admitted, Prompt, admitted, requests_for
from engine.request import CompletionOutput, RequestOutput, RequestOutputKind, SamplingParams
from engine.scheduling.plan import SchedulerState

T = TypeVar("T")
Result = TypeVar("Result")

ENCODERS = 2
"""Threads that turn prompts into tokens: a long one takes a second, in which others need not wait."""


class QueueFullError(RuntimeError):
    """More is under way than was allowed at once; trying again later may help."""


class AsyncLLM:
    """An engine in a thread of its own, with ``generate`` for asyncio.

    ``model`` is a name (keyword arguments are EngineConfig's then) or an engine that is built already, which nobody
    else may use until ``shutdown``, and which remains its owner's to close. ``max_unfinished`` bounds the answers
    under way, waiting ones among them.

    Raises ConfigError, CheckpointError and WorkerDiedError.
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
        self.engine.tokenizer.load()  # rather than while the first client waits
        self.max_unfinished = max_unfinished
        workers = self.engine.workers
        self._thread = EngineThread(self.engine.core, observers, None if workers is None else workers.check)
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="tokenizer")
        self._limits = self.engine.core.limits
        self._open: dict[RequestOutputCollector, tuple[str, list[str]]] = {}

    @property
    def dead(self) -> EngineDeadError | EngineStoppedError | None:
        """Why nothing can run any more; None while the engine is well."""
        return self._thread.end

    @property
    def limits(self) -> ResolvedLimits:
        return self._limits

    @property
    def unfinished(self) -> int:
        """Answers under way, waiting ones among them."""
        return sum(collector.unfinished for collector in self._open)

    def state(self) -> SchedulerState:
        """What could be seen after the last step."""
        return self._thread.seen

    async def generate(
        self, prompt: Prompt, sampling_params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Outputs as they grow, by ``sampling_params.output_kind``.

        CUMULATIVE: all ``n`` answers so far, each time; the last one is what LLM.generate returns. DELTA: the answers
        that grew, with what is new of them. FINAL_ONLY: one output, at the end. An output may stand for several
        tokens where the client is slower than the engine. Closing the generator, or cancelling the task that waits in
        it, aborts the request.

        Raises RequestRefusedError, ValueError for an id that is taken, QueueFullError, and, at once whenever it
        happens, EngineDeadError or EngineStoppedError.
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
        """The tokens of a text, made beside the event loop."""
        return await self._beside(self.engine.tokenizer.encode, text)

    async def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """The tokens of a conversation (Tokenizer.encode_chat). Raises ChatTemplateError."""
        return await self._beside(self.engine.tokenizer.encode_chat, messages)

    async def prepare(self, prompt: Prompt, params: SamplingParams) -> Admitted:
        """Tokens and checked parameters of a prompt. Raises RequestRefusedError."""
        if isinstance(prompt, str):
            prompt = {"prompt_token_ids": await self.encode(prompt)}
        padded = self.engine.core.config.pads_prompts
        return admitted(prompt, params, self.engine.tokenizer, self._limits.max_model_len, padded=padded)

    async def _beside(self, function: Callable[[T], Result], argument: T) -> Result:
        if self.dead is not None:
            raise self.dead
        return await asyncio.get_running_loop().run_in_executor(self._encoders, function, argument)

    def submit(self, prompts: Sequence[Admitted], request_id: str) -> RequestOutputCollector:
        """Queue prompts together, all or none; answer ``i`` of prompt ``p`` is number ``p * n + i``.

        The collector has to be closed in the end. Raises ValueError for an id that is taken, QueueFullError,
        EngineDeadError, EngineStoppedError.
        """
        if any(taken == request_id for taken, _ in self._open.values()):
            raise ValueError(f"request id {request_id} is taken")
        requests = [
            request
            for number, prompt in enumerate(prompts)
            for request in requests_for(request_id if len(prompts) == 1 else f"{request_id}-{number}", prompt)
        ]
        under_way = self.unfinished
        if self.max_unfinished is not None and under_way + len(requests) > self.max_unfinished:
            raise QueueFullError(
                f"{under_way} sequences are under way and {len(requests)} more were asked for, "
                f"but this engine takes {self.max_unfinished} at once"
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
            with suppress(EngineDeadError, EngineStoppedError):  # everything ended with the engine
                self._thread.abort(request_ids)

    async def abort(self, request_id: str) -> None:
        """End a request: its last output has the finish reason ``abort``. Nothing happens where it has ended."""
        for taken, request_ids in list(self._open.values()):
            if taken == request_id:
                await asyncio.wrap_future(self._thread.abort(request_ids))

    async def reset(self, limits: Limits) -> ResolvedLimits:
        """Abort every request and tighten (or widen again) the limits. Raises ConfigError."""
        self._limits = await asyncio.wrap_future(self._thread.reset(limits))
        return self._limits

    async def tighten(self, limits: Limits) -> ResolvedLimits:
        """Set other limits for an engine on which nothing is under way.

        Raises ConfigError for impossible limits, whatever is under way; then EngineBusyError.
        """
        resolved = resolve_limits(self.engine.core.config, limits)
        if self._open:
            raise EngineBusyError(f"open responses {len(self._open)}")
        self._limits = await asyncio.wrap_future(self._thread.tighten(resolved))
        return self._limits

    async def idle(self) -> None:
        """Wait until nothing is under way and every block is free. Raises EngineDeadError, EngineStoppedError."""
        await asyncio.wrap_future(self._thread.when_idle())

    def shutdown(self, timeout: float | None = 10) -> None:
        """End the engine's thread after its present step (seconds at most); open requests fail. Again does no harm.

        An engine that was built here is closed, too.
        """
        self._thread.stop(timeout)
        self._encoders.shutdown(wait=False, cancel_futures=True)
        if self._built_here:
            self.engine.close()
