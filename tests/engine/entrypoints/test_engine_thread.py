"""Tests of the engine in its thread, without a model: no caller waits forever, even after an error of the engine."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError

import pytest

from engine.config import ConfigError, Limits, resolve_limits
from engine.core import StepRecord
from engine.entrypoints.engine_thread import EngineBusyError, EngineDeadError, EngineStoppedError, EngineThread
from engine.kv_cache.block_pool import OutOfBlocksError
from engine.request import FinishReason, Request, TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState
from tests.helpers.engine import ScriptedTokens, core_with, request

SOON = 10
"""The timeout of every wait, in seconds."""


class Listener:
    """A subscriber of a request that records the calls of its methods. Tests can wait until a call has come."""

    def __init__(self) -> None:
        self.tokens = 0
        self.reason: FinishReason | None = None
        self.error: Exception | None = None
        self.begun, self.ended = threading.Event(), threading.Event()

    def progressed(self, sequence: SequenceState) -> None:
        self.tokens = len(sequence.tokens)
        self.reason = sequence.finish_reason
        self.begun.set()
        if self.reason:
            self.ended.set()

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ended.set()


class Brake:
    """An executor that waits for permission before each step, and that tests can make fail."""

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.error: BaseException | None = None
        self._tokens = ScriptedTokens()

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        assert self.leave.acquire(timeout=SOON)
        if self.error is not None:
            raise self.error
        return self._tokens.execute(plan, sequences)


@pytest.fixture
def brake() -> Brake:
    return Brake()


@pytest.fixture
def engine(brake: Brake) -> Iterator[EngineThread]:
    thread = EngineThread(core_with(executor=brake))
    yield thread
    brake.leave.release(1000)
    thread.stop(SOON)
    assert not thread._thread.is_alive()


def test_a_request_runs_to_its_end_and_everything_is_free(engine: EngineThread, brake: Brake) -> None:
    listener = Listener()
    engine.add(request("a", 10, 5), listener)
    brake.leave.release(5)
    engine.when_idle().result(SOON)
    assert (listener.tokens, listener.reason) == (5, "length")
    assert (engine.seen.tkv, engine.seen.n_used_blocks, engine.seen.n_reserved_blocks) == (0, 0, 0)


def test_an_engine_that_could_no_longer_run_dies_also_without_work() -> None:
    broken = threading.Event()

    def check() -> None:
        if broken.is_set():
            raise RuntimeError("its processes are gone")

    thread = EngineThread(core_with(), check=check)
    listener = Listener()
    thread.add(request("a", 10, 5), listener)
    assert listener.ended.wait(SOON)
    assert thread.end is None
    broken.set()
    thread._thread.join(SOON)
    with pytest.raises(EngineDeadError, match="its processes are gone"):
        thread.when_idle()


def test_an_abort_between_two_steps_frees_the_blocks_with_the_next(engine: EngineThread, brake: Brake) -> None:
    first, second = Listener(), Listener()
    engine.add(request("first", 100, 50), first)
    engine.add(request("second", 10, 6), second)
    brake.leave.release(3)
    assert second.begun.wait(SOON)
    aborted = engine.abort(["first", "unknown"])
    brake.leave.release(1)
    aborted.result(SOON)
    assert first.reason == "abort"
    brake.leave.release(10)
    engine.when_idle().result(SOON)
    assert (second.tokens, second.reason) == (6, "length")
    assert engine.seen.n_used_blocks == 0


def test_a_waiting_request_that_is_aborted_never_runs(engine: EngineThread, brake: Brake) -> None:
    running, waiting = Listener(), Listener()
    engine.add(request("a", 10, 2), running)
    engine.add(request("b", 10, 2), waiting)
    engine.abort(["b"])
    brake.leave.release(2)
    engine.when_idle().result(SOON)
    assert (waiting.tokens, waiting.reason) == (0, "abort")
    assert running.tokens == 2


def test_an_id_that_is_taken_fails_the_second_request_only(engine: EngineThread, brake: Brake) -> None:
    first, second = Listener(), Listener()
    engine.add(request("a", 10, 2), first)
    engine.add(request("a", 10, 2), second)
    brake.leave.release(2)
    assert second.ended.wait(SOON)
    assert first.ended.wait(SOON)
    assert "is already in use" in str(second.error)
    assert first.reason == "length"


def test_an_error_in_a_step_reaches_everybody_at_once_with_its_cause(engine: EngineThread, brake: Brake) -> None:
    listeners = [Listener() for _ in range(6)]
    for number, listener in enumerate(listeners):
        engine.add(request(str(number), 10, 50), listener)
    idle = engine.when_idle()
    brake.leave.release(3)
    assert listeners[2].begun.wait(SOON)
    brake.error = RuntimeError("the card is on fire")
    brake.leave.release(1)
    for listener in listeners:
        assert listener.ended.wait(SOON)
        assert isinstance(listener.error, EngineDeadError)
        assert listener.error.__cause__ is brake.error
    with pytest.raises(EngineDeadError, match="RuntimeError: the card is on fire"):
        idle.result(SOON)
    assert isinstance(engine.end, EngineDeadError)


@pytest.mark.parametrize("error", [MemoryError("full"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_whatever_kills_the_engine_later_calls_are_refused_at_once(
    engine: EngineThread, brake: Brake, error: BaseException
) -> None:
    listener = Listener()
    brake.error = error
    engine.add(request("a", 10, 5), listener)
    brake.leave.release(1)
    assert listener.ended.wait(SOON)
    for call in (
        lambda: engine.add(request("b", 10, 5), Listener()),
        lambda: engine.abort(["a"]),
        lambda: engine.reset(Limits()),
        engine.when_idle,
    ):
        with pytest.raises(EngineDeadError) as refused:
            call()
        assert refused.value.__cause__ is error


def test_stopping_fails_what_runs_and_leaves_a_core_to_go_on_with(engine: EngineThread, brake: Brake) -> None:
    listener = Listener()
    engine.add(request("a", 10, 50), listener)
    brake.leave.release(1)
    assert listener.begun.wait(SOON)
    threading.Timer(0.01, brake.leave.release, [100]).start()
    engine.stop(SOON)
    assert isinstance(listener.error, EngineStoppedError)
    with pytest.raises(EngineStoppedError):
        engine.add(request("b", 10, 5), Listener())
    core = engine._core
    assert (core.has_work, core.sequences, core.state().n_used_blocks) == (False, {}, 0)


def test_a_request_that_the_blocks_cannot_hold_fails_alone(engine: EngineThread, brake: Brake) -> None:
    engine.reset(Limits(available_blocks=2)).result(SOON)
    unschedulable, fine = Listener(), Listener()
    engine.add(request("hopeless", 129, 3), unschedulable)
    engine.add(request("fine", 5, 3), fine)
    brake.leave.release(3)
    assert fine.ended.wait(SOON)
    assert isinstance(unschedulable.error, OutOfBlocksError)
    assert fine.reason == "length"
    assert engine.end is None


def test_limits_are_tightened_only_where_nothing_is_under_way_or_held(engine: EngineThread, brake: Brake) -> None:
    listener = Listener()
    engine.add(request("a", 10, 5), listener)
    brake.leave.release(1)
    assert listener.begun.wait(SOON)
    tight = resolve_limits(engine._core.config, Limits(max_num_seqs=2))
    refused = engine.tighten(tight)
    brake.leave.release(4)
    with pytest.raises(EngineBusyError, match="requests 1, running 1, reserved blocks "):
        refused.result(SOON)
    engine.when_idle().result(SOON)
    assert listener.reason == "length"
    assert engine.tighten(tight).result(SOON).max_num_seqs == 2


def test_a_reset_aborts_and_tightens_and_refuses_the_impossible(engine: EngineThread, brake: Brake) -> None:
    listener = Listener()
    engine.add(request("a", 10, 50), listener)
    brake.leave.release(1)
    assert listener.begun.wait(SOON)
    brake.leave.release(1)
    assert engine.reset(Limits(max_num_seqs=2)).result(SOON).max_num_seqs == 2
    assert listener.reason == "abort"
    with pytest.raises(ConfigError, match="exceeds the 4"):
        engine.reset(Limits(max_num_seqs=5)).result(SOON)
    assert engine.end is None


def test_a_call_that_its_caller_gave_up_is_not_made(engine: EngineThread, brake: Brake) -> None:
    listener = Listener()
    engine.add(request("a", 10, 5), listener)
    brake.leave.release(1)
    assert listener.begun.wait(SOON)
    gave_up = engine.reset(Limits())
    assert gave_up.cancel()
    brake.leave.release(10)
    engine.when_idle().result(SOON)
    assert listener.reason == "length", "no reset took place"
    with pytest.raises(CancelledError):
        gave_up.result()


def test_observers_see_every_step(brake: Brake) -> None:
    class Notes:
        def __init__(self) -> None:
            self.notes: list[tuple[str, str | int] | tuple[str, str, str]] = []

        def queued(self, request: Request) -> None:
            self.notes.append(("queued", request.request_id))

        def stepped(self, record: StepRecord) -> None:
            self.notes.append(("step", record.step))

        def ended(self, request_id: str, reason: FinishReason) -> None:
            self.notes.append(("ended", request_id, str(reason)))

    notes = Notes()
    thread = EngineThread(core_with(), [notes])
    thread.add(request("a", 10, 2), Listener())
    thread.when_idle().result(SOON)
    thread.stop(SOON)
    assert notes.notes == [("queued", "a"), ("step", 1), ("step", 2), ("ended", "a", "length"), ("step", 3)]
