"""Start and end the worker processes of a tensor-parallel model, and run steps on them.

Every engine has its own workers, which form a process group of torch. The engine's process is not in a process group,
so it may have several engines and use them from any thread. This file does not import torch.
"""

import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.backends.compilation import Compilation
from engine.config import EngineConfig
from engine.environment import threads
from engine.scheduling.plan import PromptPart, Runnable
from engine.tensor_parallel.messages import Failed, Logits, Ready, Start, Step

if TYPE_CHECKING:
    import numpy

WORKER = "engine.tensor_parallel.worker"
ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 1.0
"""The interval in seconds at which the engine checks, while it waits for messages, that its workers are alive."""
ERROR_SECONDS = 1.0
"""The time to wait for error messages of the other workers after one has failed, in seconds."""


class WorkerProcess(Protocol):
    """The methods of ``subprocess.Popen`` that this file uses."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...


Starter = Callable[[str], tuple[WorkerProcess, Connection]]
"""A function that starts a worker, and returns its process and the connection to it.

The argument is the folder in which the workers form torch's process group (``FOLDER`` in worker.py).
"""


class WorkerDiedError(RuntimeError):
    """No step can run, because a worker ended or the engine was closed.

    The message is the cause in one line. If a worker raised an exception, its traceback is added as a note.
    """


class Workers:
    """The ``config.tensor_parallel_size`` worker processes of an engine, which run steps after ``ready``.

    The workers end when ``close`` is called, when this object is deleted, or when the process that started them ends
    for any reason.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._processes: list[WorkerProcess] = []
        self._connections: list[Connection] = []
        self._folder = tempfile.mkdtemp(prefix="spyre-cb-")
        self._owner = os.getpid()
        self._compiled: list[Compilation] = []
        self._recompiles = 0
        self._end: str | None = None
        self._traceback: str | None = None
        # Connections are not closed here: another thread may be waiting for them. It wakes up when the workers end.
        self._finalizer = weakref.finalize(self, _end, self._processes, self._folder, self._owner)
        try:
            for rank in range(config.tensor_parallel_size):
                process, connection = _starter(self._folder)
                self._processes.append(process)
                self._connections.append(connection)
                self._send(connection, Start(config, rank))
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Return the process ids of the workers in the order of their ranks."""
        return tuple(process.pid for process in self._processes)

    def ready(self) -> None:
        """Wait until every worker has loaded its part of the model and is warmed up.

        Raises WorkerDiedError if a worker ends or fails before that.
        """
        try:
            waiting = list(self._connections)
            while waiting:
                for connection, message in self._received():
                    assert isinstance(message, Ready)
                    waiting.remove(connection)
                    if message.compilation is not None:
                        self._compiled.append(message.compilation)
        except BaseException:
            self.close("the engine did not start")
            raise
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def compilation(self) -> Compilation | None:
        """Return the summary of what was compiled in all workers; None if the backend does not compile."""
        if not self._compiled:
            return None
        return Compilation(self._compiled[0].backend, sum(c.graphs for c in self._compiled), self._recompiles)

    def logits(self, plan: Runnable, token_ids: Sequence[int]) -> "numpy.ndarray":
        """Run a plan on all workers and return the logits to sample from, float32 ``[rows, vocabulary]``.

        ``token_ids`` are the input tokens of the plan, as ``token_ids_for`` returns them. Raises WorkerDiedError if a
        worker has ended or failed, if the workers were closed, or if this process is a fork of the one that started
        them.
        """
        return self.step_logits(plan, token_ids, ()).values

    def step_logits(self, plan: Runnable, token_ids: Sequence[int], wanted: tuple[PromptPart, ...]) -> Logits:
        """Run a plan on all workers. Return the logits to sample from and those of the prompt tokens in ``wanted``."""
        if os.getpid() != self._owner:
            raise WorkerDiedError("only the process that started the engine's workers can run steps, not a fork of it")
        if self._end is not None:
            raise self._died()
        step = Step(plan, tuple(token_ids), wanted)
        try:
            for connection in self._connections:
                self._send(connection, step)
            while True:
                for _, message in self._received():
                    assert isinstance(message, Logits)
                    return message
        except BaseException:
            # After an interruption the workers may still be running this step, so they cannot run another.
            self.close("a step of the engine was interrupted")
            raise

    def check(self) -> None:
        """Raise WorkerDiedError if the workers can run no further step."""
        if self._end is not None or any(process.poll() is not None for process in self._processes):
            raise self._died()

    def close(self, why: str = "the engine was closed") -> None:
        """End the workers. Later steps fail with the reason ``why``. Idempotent."""
        self._end = self._end or why
        self._finalizer()

    def _send(self, connection: Connection, message: Start | Step) -> None:
        try:
            connection.send(message)
        except OSError:
            raise self._died() from None

    def _received(self) -> list[tuple[Connection, Ready | Logits]]:
        """Wait for messages of workers and return at least one. Raises WorkerDiedError once a worker has failed."""
        received: list[tuple[Connection, Ready | Logits]] = []
        while not received:
            for connection in wait(self._connections, LOOK_SECONDS):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    raise self._died() from None
                if isinstance(message, Failed):
                    raise self._died({self._connections.index(connection): message})
                received.append((connection, message))
            if not received and any(process.poll() is not None for process in self._processes):
                raise self._died()
        return received

    def _died(self, failed: dict[int, Failed] | None = None) -> WorkerDiedError:
        """Return the error to raise after a worker failed. ``failed`` has the messages received so far, by rank."""
        if self._end is None:
            what, self._traceback = self._cause(dict(failed or {}))
            self.close(what)
        error = WorkerDiedError(self._end)
        if self._traceback is not None:
            error.add_note(self._traceback)
        return error

    def _cause(self, failed: dict[int, Failed]) -> tuple[str, str | None]:
        """Return why the workers failed, in one line, and the traceback if there is one.

        If one worker ends, the other workers fail as a consequence. The cause is the worker that ended without a
        message or, if all workers sent a message, the worker that failed first.
        """
        give_up = time.monotonic() + ERROR_SECONDS
        of = f"of {len(self._processes)}"
        open_ends = {connection: rank for rank, connection in enumerate(self._connections) if rank not in failed}
        while open_ends and (left := give_up - time.monotonic()) > 0:
            for connection in wait(list(open_ends), left):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    rank = open_ends[connection]
                    return f"worker {rank} {of} {_how_it_ended(self._processes[rank])}", None
                if isinstance(message, Failed):
                    failed[open_ends.pop(connection)] = message
        if not failed:
            return f"a worker {of} ended", None
        rank, first = min(failed.items(), key=lambda item: item[1].when)
        self._recompiles += first.recompile
        return f"worker {rank} {of} failed: {first.error}", first.traceback.rstrip()


def spawn_worker(folder: str) -> tuple[WorkerProcess, Connection]:
    """Start a worker as a new Python process."""
    ours, its = Pipe()
    with its:
        process = subprocess.Popen(
            # -P: the worker must not import modules from the working directory.
            [sys.executable, "-P", "-m", WORKER, str(its.fileno()), str(os.getpid()), folder],
            env=os.environ | {"PYTHONPATH": _python_path(), "OMP_NUM_THREADS": str(threads(os.environ))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # ibm-fms prints to stdout, where a server's first line is its URL
            pass_fds=[its.fileno()],
            start_new_session=True,  # only the engine's process handles Ctrl-C and SIGTERM to the process group
        )
    return process, ours


_starter: Starter = spawn_worker


def start_workers_with(starter: Starter) -> None:
    """Set the function with which this process starts workers. The harness sets one that forks, which is faster."""
    global _starter
    _starter = starter


def _python_path() -> str:
    """Return a PYTHONPATH for workers, so that they import the engine from the same folder as this process."""
    # Workers find an engine in site-packages anyway. In PYTHONPATH, that folder would precede Python's own library.
    own = None if str(ROOT) in site.getsitepackages() else str(ROOT)
    return os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))


def _how_it_ended(process: WorkerProcess) -> str:
    try:
        status = process.wait(ERROR_SECONDS)
    except subprocess.TimeoutExpired:
        return "closed its connection"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def _end(processes: Sequence[WorkerProcess], folder: str, owner: int) -> None:
    """Kill the workers, if this is the process that started them (``owner``) and not a fork of it."""
    if os.getpid() != owner:
        return
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
