"""Where answers wait for an asyncio client, merged: a slow one finds fewer and longer deltas, never a longer queue."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from engine.entrypoints.completion import completion
from engine.entrypoints.deltas import DeltaMaker, merged
from engine.request import CompletionOutput, RequestOutputKind, SamplingParams
from engine.sequence import SequenceState
from engine.tokenizer import Tokenizer


class RequestOutputCollector:
    """Deltas of the answers 0 to ``count`` - 1 to one client. Belongs to the event loop it was made in.

    Holds at most what the answers may grow to: ``max_tokens`` tokens each, once. ``close`` must be called in the end
    (again does no harm); it ends what has not ended.
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
        """Answers that have not ended, as far as the event loop has heard."""
        return len(self._open)

    async def take(self) -> Mapping[int, CompletionOutput]:
        """What came since the last call, by answer; waits for something. Empty when all has been taken.

        Raises what ended the request, if it was an error: EngineDeadError, EngineStoppedError, OutOfBlocksError.
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
        """All answers, whole, in order. Raises as ``take``."""
        whole: dict[int, CompletionOutput] = {}
        while new := await self.take():
            whole.update({i: merged(whole[i], delta) if i in whole else delta for i, delta in new.items()})
        return [whole[index] for index in range(self.count)]

    def close(self) -> None:
        """Give up what has not ended."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._open.clear()
            self._something.set()

    def put_from_thread(self, delta: CompletionOutput) -> None:
        """For the engine's thread. Nothing happens where the event loop is gone."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, delta)

    def fail_from_thread(self, error: Exception) -> None:
        """For the engine's thread. Nothing happens where the event loop is gone."""
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
    """The engine's end of one answer in a collector (engine_thread.Subscriber)."""

    def __init__(
        self, collector: RequestOutputCollector, index: int, params: SamplingParams, tokenizer: Tokenizer
    ) -> None:
        self._mailbox = collector
        self._index = index
        self._tokenizer = tokenizer
        self._final_only = params.output_kind is RequestOutputKind.FINAL_ONLY
        self._deltas = DeltaMaker(index, tokenizer, skip_special_tokens=params.skip_special_tokens)

    def progressed(self, sequence: SequenceState) -> None:
        if not self._final_only:
            self._mailbox.put_from_thread(self._deltas.delta(sequence))
        elif sequence.finish_reason is not None:
            self._mailbox.put_from_thread(completion(self._index, sequence, self._tokenizer))

    def failed(self, error: Exception) -> None:
        self._mailbox.fail_from_thread(error)
