"""Pass outputs from the engine's thread to asyncio clients.

Deltas that a client has not taken yet are merged, so a slow client gets fewer and longer deltas.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from engine.entrypoints.completion import completion, grammar_failure
from engine.entrypoints.deltas import DeltaMaker, merged
from engine.request import CompletionOutput, FinishReason, RequestOutputKind, SamplingParams
from engine.sequence import SequenceState
from engine.tokenizer import Tokenizer


class RequestOutputCollector:
    """Collects the deltas of all answers to one request until the client takes them.

    The answers have the numbers 0 to ``count`` - 1. A collector may only be used in the event loop in which it was
    created, except for the methods ``…_from_thread``, which the engine's thread calls. It stores at most ``max_tokens``
    tokens per answer. The owner of the collector must call ``close``, which aborts unfinished answers and calls
    ``on_close``.
    """

    def __init__(self, count: int, on_close: Callable[["RequestOutputCollector"], None]) -> None:
        self.count = count
        self._loop = asyncio.get_running_loop()
        self._on_close = on_close
        self._open = set(range(count))
        self._closed = False
        self._new: dict[int, CompletionOutput] = {}
        self._error: Exception | None = None
        self._something = asyncio.Event()

    @property
    def unfinished(self) -> int:
        """Return the number of unfinished answers: those whose last delta has not arrived in the event loop yet."""
        return len(self._open)

    async def take(self) -> Mapping[int, CompletionOutput]:
        """Wait for new deltas, and return them by the number of the answer. After the last delta, return an empty dict.

        If an error ended the request, raises that error: EngineDeadError, EngineStoppedError, OutOfBlocksError or
        StructuredOutputsError.
        """
        while not self._new:
            if self._error is not None:
                raise self._error
            if not self._open:
                return {}
            self._something.clear()
            await self._something.wait()
        new, self._new = self._new, {}
        return new

    async def take_all(self) -> list[CompletionOutput]:
        """Wait until all answers are complete, and return them in order. Raises the same errors as ``take``."""
        whole: dict[int, CompletionOutput] = {}
        while new := await self.take():
            whole.update({i: merged(whole[i], delta) if i in whole else delta for i, delta in new.items()})
        return [whole[index] for index in range(self.count)]

    def close(self) -> None:
        """Abort unfinished answers. Idempotent."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._open.clear()
            self._something.set()

    def put_from_thread(self, delta: CompletionOutput) -> None:
        """Add a delta, from the engine's thread. Does nothing if the event loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, delta)

    def fail_from_thread(self, error: Exception) -> None:
        """End all answers with ``error``, from the engine's thread. Does nothing if the event loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, error)

    def _put(self, delta: CompletionOutput) -> None:
        if self._closed:
            return
        index = delta.index
        self._new[index] = merged(self._new[index], delta) if index in self._new else delta
        if delta.finish_reason is not None:
            self._open.discard(index)
        self._something.set()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._something.set()


class OutputQueue:
    """The Subscriber (engine_thread.py) of one answer: passes the deltas of the answer to a collector.

    ``index`` is the number of the answer in the collector.
    """

    def __init__(
        self, collector: RequestOutputCollector, index: int, params: SamplingParams, tokenizer: Tokenizer
    ) -> None:
        self._collector = collector
        self._index = index
        self._tokenizer = tokenizer
        self._final_only = params.output_kind is RequestOutputKind.FINAL_ONLY
        self._deltas = DeltaMaker(index, tokenizer, skip_special_tokens=params.skip_special_tokens)

    def progressed(self, sequence: SequenceState) -> None:
        if sequence.finish_reason is FinishReason.ERROR:
            self.failed(grammar_failure(sequence))
        elif not self._final_only:
            delta = self._deltas.delta(sequence)
            if not delta.is_empty:
                self._collector.put_from_thread(delta)
        elif sequence.finish_reason is not None:
            self._collector.put_from_thread(completion(self._index, sequence, self._tokenizer))

    def failed(self, error: Exception) -> None:
        self._collector.fail_from_thread(error)
