"""Start processes that end with their parent, however the parent ends (kill -9 runs no clean-up).

On Linux the kernel sends the signal (``PR_SET_PDEATHSIG``). The kernel takes the *thread* that started a process for
its parent, so a process that must outlive a short-lived thread is started from a permanent one: ``start_with_parent``.
On other systems a child detects the end of its parent by the pipe between them.

The module is also a program: ``python subprocesses.py PARENT COMMAND…`` runs ``COMMAND`` bound to the process
``PARENT``.
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
    """End this process as soon as the process ``parent`` ends; immediately if ``parent`` has already ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def start_with_parent(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **more: Any
) -> "subprocess.Popen[Any]":
    """Start a command as ``subprocess.Popen`` does. It ends with this process at the latest.

    The command itself needs no code for this.
    """
    wrapped = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]
    if (
        threading.current_thread() is threading.main_thread()
    ):  # permanent; and a process that forks must have no other thread
        return subprocess.Popen(wrapped, env=env, **more)
    return _starter(os.getpid()).submit(lambda: subprocess.Popen(wrapped, env=env, **more)).result()


@lru_cache(maxsize=1)
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a fork has no thread of its parent: start another
    """Return a thread pool of one thread that lives as long as this process."""
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
