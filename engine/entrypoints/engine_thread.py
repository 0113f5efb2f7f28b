"""EngineThread: an engine core in a thread of its own. Other threads queue calls, which run between two steps.

Callers do not wait for a step: a call returns a Future, and the tokens of a request are passed to its subscriber. This
file does not import torch.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from engine.config import Limits, ResolvedLimits
from engine.core import EngineCore, StepRecord
from engine.kv_cache.block_pool import OutOfBlocksError, UnschedulableRequestError
from engine.request import FinishReason, Request
from engine.scheduling.plan import SchedulerState
from engine.sequence import SequenceState

Result = TypeVar("Result")

LOOK_SECONDS = 1.0
"""The interval in seconds at which an idle engine calls ``check``."""


class EngineDeadError(RuntimeError):
    """The engine ended because of an error, which is the ``__cause__``, and runs no further requests."""


class EngineStoppedError(RuntimeError):
    """The engine was shut down before the request ended."""


class EngineBusyError(RuntimeError):
    """Limits cannot change, because the engine is not idle.

    The message lists what is unfinished or in use, for example ``requests 2, running 2, used blocks 5``.
    """


class Subscriber(Protocol):
    """The interface of an object that receives the progress of one request.

    The methods are called in the engine's thread, so they must be quick and must not block.
    """

    def progressed(self, sequence: SequenceState) -> None:
        """Handle a new token or an abort. If ``sequence.finish_reason`` is set, this is the last call."""

    def failed(self, error: Exception) -> None:
        """Handle an error that ended the request. The subscriber is not called again after this call."""


class Observer(Protocol):
    """The interface of an object that receives every step record, for metrics and traces.

    The methods are called in the engine's thread.
    """

    def queued(self, request: Request) -> None: ...
    def stepped(self, record: StepRecord) -> None: ...
    def ended(self, request_id: str, reason: FinishReason) -> None: ...


class EngineThread:
    """A thread that runs the steps of ``core`` while requests are left, and waits for calls otherwise.

    Other threads must not use the core. While no requests are left, the thread calls ``check`` every second; ``check``
    must raise an error if the core can no longer run a step, and this error ends the engine. ``seen`` is the
    scheduler's state after the last step; any thread may read it at any time.
    """

    def __init__(
        self, core: EngineCore, observers: Sequence[Observer] = (), check: Callable[[], None] | None = None
    ) -> None:
        self._core = core
        self._check = check
        self._observers = tuple(observers)
        self._subscribers: dict[str, Subscriber] = {}
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._idle_waiters: list[Future[None]] = []
        self._closing = threading.Lock()  # so that no call is queued after the thread has run the last one
        self._end: EngineDeadError | EngineStoppedError | None = None
        self._stopping = False
        self.seen: SchedulerState = core.state()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def end(self) -> EngineDeadError | EngineStoppedError | None:
        """Return the error that ended the engine; None while the engine runs."""
        return self._end

    def add(self, request: Request, subscriber: Subscriber) -> None:
        """Queue a request. If the core refuses it, ``subscriber.failed`` is called with the error.

        Raises EngineDeadError or EngineStoppedError if the engine has ended.
        """

        def pass_error(answer: Future[None]) -> None:
            error = answer.exception()
            if isinstance(error, Exception):
                subscriber.failed(error)

        self._queue_call(partial(self._add, request, subscriber)).add_done_callback(pass_error)

    def abort(self, request_ids: Sequence[str]) -> Future[None]:
        """Abort requests before the next step. Ids of ended requests are ignored.

        The Future is done after the requests were aborted.
        """
        return self._queue_call(partial(self._abort, tuple(request_ids)))

    def reset(self, limits: Limits) -> Future[ResolvedLimits]:
        """Abort every request, then call EngineCore.reset. The Future has the result or ConfigError of that call."""
        return self._queue_call(partial(self._reset, limits))

    def tighten(self, limits: ResolvedLimits) -> Future[ResolvedLimits]:
        """Set the limits between two steps, with EngineCore.restart. The Future has the limits in effect.

        The Future raises EngineBusyError if a request is unfinished, a block is in use, or another step has to run.
        """
        return self._queue_call(partial(self._tighten, limits))

    def when_idle(self) -> Future[None]:
        """Return a Future that is done as soon as no request is left and no block is in use."""
        idle: Future[None] = Future()
        self._queue_call(partial(self._idle_waiters.append, idle))
        return idle

    def stop(self, timeout: float | None = None) -> None:
        """Stop the thread after its current step, and wait for it at most ``timeout`` seconds (None: without a limit).

        Every unfinished request fails with EngineStoppedError.
        """
        with suppress(EngineDeadError, EngineStoppedError):
            self._queue_call(self._stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _queue_call(self, call: Callable[[], Result]) -> "Future[Result]":
        answer: Future[Result] = Future()
        with self._closing:
            if self._end is not None:
                raise type(self._end)(*self._end.args) from self._end.__cause__
            self._calls.put((call, answer))
        return answer

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._answer_calls()
                if self._core.has_work:
                    self._step()
                self._notify_idle_waiters()
            self._empty_the_core()
            self._finish(EngineStoppedError("the engine was shut down"))
        except BaseException as error:
            # Clients that wait for an answer must get one after any error, so every exception is caught.
            dead = EngineDeadError(f"the engine died of {type(error).__name__}: {error}")
            dead.__cause__ = error
            self._finish(dead)

    def _answer_calls(self) -> None:
        """Run the calls that were queued since the last step. If no request is left, wait for the next call."""
        wait = not self._core.has_work
        while True:
            try:
                call, answer = self._calls.get(wait, LOOK_SECONDS if self._check else None)
            except queue.Empty:
                if wait and self._check:
                    self._check()
                return
            wait = False
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                result = call()
                self.seen = self._core.state()
                answer.set_result(result)
            except Exception as error:
                answer.set_exception(error)

    def _add(self, request: Request, subscriber: Subscriber) -> None:
        self._core.add_request(request)
        self._subscribers[request.request_id] = subscriber
        for observer in self._observers:
            observer.queued(request)

    def _abort(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            if request_id in self._subscribers:
                self._core.abort(request_id)
                self._progress(request_id)

    def _reset(self, limits: Limits) -> ResolvedLimits:
        self._abort(tuple(self._subscribers))
        return self._core.reset(limits)

    def _tighten(self, limits: ResolvedLimits) -> ResolvedLimits:
        state = self._core.state()
        held = {
            "requests": len(self._core.sequences),
            "waiting": len(state.waiting),
            "running": len(state.running),
            "reserved blocks": state.n_reserved_blocks,
            "used blocks": state.n_used_blocks,
        }
        if any(held.values()) or self._core.has_work:
            raise EngineBusyError(
                ", ".join(f"{name} {count}" for name, count in held.items() if count) or "another step has to run"
            )
        return self._core.restart(limits)

    def _stop(self) -> None:
        self._stopping = True

    def _step(self) -> None:
        try:
            record = self._core.step()
        except OutOfBlocksError as error:
            self._fail_the_unschedulable(error)
            return
        self.seen = self._core.state()  # before subscribers are called, so that they see the state after this step
        for observer in self._observers:
            observer.stepped(record)
        for request_id in record.request_outputs:
            self._progress(request_id)

    def _fail_the_unschedulable(self, error: OutOfBlocksError) -> None:
        """End a request that can never run, and pass ``error`` to its subscriber. Other requests continue."""
        unschedulable = self._unschedulable(error)
        self._core.abort(unschedulable)
        self._core.release(unschedulable)
        self._notify_ended(unschedulable, FinishReason.ABORT)
        self.seen = self._core.state()
        self._subscribers.pop(unschedulable).failed(error)

    def _unschedulable(self, error: OutOfBlocksError) -> str:
        """Return the id of the request that can never run and caused ``error``.

        Raises ``error`` again if no single request caused it.
        """
        if isinstance(error, UnschedulableRequestError):
            return error.request_id
        state = self._core.state()
        if state.running or not state.waiting:
            raise error
        return state.waiting[0]

    def _progress(self, request_id: str) -> None:
        """Tell the subscriber of a request about its new token or its end, and forget the request if it has ended."""
        sequence, subscriber = self._core.sequences[request_id], self._subscribers[request_id]
        if sequence.finish_reason is not None:
            del self._subscribers[request_id]
            self._core.release(request_id)
            self._notify_ended(request_id, sequence.finish_reason)
        subscriber.progressed(sequence)

    def _notify_ended(self, request_id: str, reason: FinishReason) -> None:
        for observer in self._observers:
            observer.ended(request_id, reason)

    def _notify_idle_waiters(self) -> None:
        if self._idle_waiters and not self._core.has_work:
            for idle in self._idle_waiters:
                if idle.set_running_or_notify_cancel():
                    idle.set_result(None)
            self._idle_waiters.clear()

    def _empty_the_core(self) -> None:
        """Abort all requests and free their blocks, so that the owner of the core can use it again."""
        for request_id in self._subscribers:
            self._core.abort(request_id)
            self._core.release(request_id)
            self._notify_ended(request_id, FinishReason.ABORT)
        while self._core.has_work:
            self._core.step()
        self.seen = self._core.state()

    def _finish(self, end: EngineDeadError | EngineStoppedError) -> None:
        """Refuse further calls, and end every unfinished request and unanswered call with the error ``end``."""
        with self._closing:
            self._end = end
        for subscriber in self._subscribers.values():
            subscriber.failed(end)
        self._subscribers.clear()
        for idle in self._idle_waiters:
            if idle.set_running_or_notify_cancel():
                idle.set_exception(end)
        while not self._calls.empty():
            _, answer = self._calls.get()
            if answer.set_running_or_notify_cancel():
                answer.set_exception(end)
