"""Processes that never outlive the one that started them, however that one ends: kill -9 runs no clean-up.

Linux tells the kernel so (``PR_SET_PDEATHSIG``). It counts the *thread* that started a process as its parent, so what
is to live longer than a passing thread is started by one that stays: ``start_with_parent``. On other
systems a child notices the end of its parent by its pipe.

Also a program: ``python subprocesses.py PARENT COMMAND…`` becomes ``COMMAND``, tied to the process ``PARENT``.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

_SET_PARENT_DEATH_SIGNAL = 1


def end_with_parent(parent: int) -> None:
    """End this process as soon as its parent, ``parent``, has ended; at once where that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def start_with_parent(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **more: Any
) -> "subprocess.Popen[Any]":
    """``subprocess.Popen`` for a command that knows nothing of us; it ends with this process at the latest."""
    attended = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]
    if threading.current_thread() is threading.main_thread():  # it stays, and a process that forks must have no other
        return subprocess.Popen(attended, env=env, **more)
    return _starter(os.getpid()).submit(lambda: subprocess.Popen(attended, env=env, **more)).result()


@lru_cache(maxsize=1)
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - after a fork the thread is gone: make another
    """A thread that lives as long as this process."""
    return ThreadPoolExecutor(1, thread_name_prefix="starter")


def _become() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    end_with_parent(parent)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    _become()
