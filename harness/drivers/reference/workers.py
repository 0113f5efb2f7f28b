"""Fork the worker processes of a tensor-parallel engine from the engine's process.

The engine's process has already imported the modules that the workers need.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from engine.environment import threads
from engine.tensor_parallel.worker import serve
from engine.tensor_parallel.workers import WORKER, WorkerProcess, spawn_worker, start_workers_with
from harness.forking.name import name_module
from harness.forking.threads import count_threads


class ForkedWorker:
    """A forked worker process. Several threads of the process that forked it can wait for its end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._pidfd)  # Not earlier: another thread may wait with it.
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends, and return its exit status.

        Raises subprocess.TimeoutExpired if it does not end within ``timeout`` seconds. With None, there is no timeout.
        """
        if self.poll() is None:
            select.select([self._pidfd], [], [], timeout)
        returncode = self.poll()
        if returncode is None:
            raise subprocess.TimeoutExpired(WORKER, timeout or 0.0)
        return returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def fork_workers() -> None:
    """Make tensor-parallel engines in this process and its forks start their workers by forking.

    If the process has several threads when an engine starts, the workers are started as new processes instead, because
    a process with several threads can't be forked safely.
    """
    if sys.platform == "linux":
        start_workers_with(_fork_or_spawn)


def _fork_or_spawn(meeting_place: str) -> tuple[WorkerProcess, Connection]:
    if count_threads() > 1:
        return spawn_worker(meeting_place)
    ours, its = Pipe()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run_worker(its, parent, meeting_place)
    its.close()
    return ForkedWorker(pid), ours


def _run_worker(connection: Connection, parent: int, meeting_place: str) -> None:
    """Run a worker in this process, which is a new fork. This function does not return.

    First close all inherited file descriptors except ``connection`` and stderr. ``parent`` is the id of the process
    that forked this one: the worker ends when that process ends. ``meeting_place`` is the folder in which the workers
    form torch's process group.
    """
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        own = connection.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ["OMP_NUM_THREADS"] = str(threads(os.environ))
        name_module(WORKER)
        serve(connection, parent, meeting_place)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
