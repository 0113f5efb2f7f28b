"""Start processes that end when their parent ends, even if the parent is killed with SIGKILL.

On Linux the kernel sends a signal to the child when its parent ends (parent-death signal, ``PR_SET_PDEATHSIG``). More
precisely, it sends the signal when the *thread* that has started the child ends. Therefore ``start_with_parent`` starts
children from a thread that lives as long as the process. On other systems, a child detects the end of its parent
because the pipe between the two is closed.

The module is also a program: ``python subprocesses.py PARENT COMMAND…`` runs ``COMMAND`` so that it ends when the
process with the id ``PARENT`` ends.
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
    """Make the kernel kill this process when its parent ends. If the parent has already ended, exit immediately.

    ``parent`` is the id of the parent process. On other systems than Linux, only check whether it has already ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def start_with_parent(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **more: Any
) -> "subprocess.Popen[Any]":
    """Start a command as ``subprocess.Popen`` does, but so that its process is killed when this process ends.

    The command can be any program. ``more`` are further arguments of ``subprocess.Popen``.
    """
    wrapped = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]
    # The main thread lives as long as the process. A second thread is avoided, because it would prevent forks.
    if threading.current_thread() is threading.main_thread():
        return subprocess.Popen(wrapped, env=env, **more)
    return _starter(os.getpid()).submit(lambda: subprocess.Popen(wrapped, env=env, **more)).result()


@lru_cache(maxsize=1)
def _starter(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - the cache key: each forked process needs a thread of its own
    """Return a pool with one thread, which lives as long as the process. ``process`` is the id of this process."""
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
