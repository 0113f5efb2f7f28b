"""Workers of a tensor-parallel engine as forks of its process, which has imported all that they need."""

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
    """A child of this process; any thread may ask for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._pidfd)  # not sooner: another thread may wait for it
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
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
    """From now on, in this process and its forks: as long as a process has one thread, its workers are forked."""
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
        _be_a_worker(its, parent, meeting_place)
    its.close()
    return ForkedWorker(pid), ours


def _be_a_worker(connection: Connection, parent: int, meeting_place: str) -> None:
    """As ``spawn_worker`` would have started it: its connection, stderr, and nothing else of its parent's."""
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
