"""Run a function in a fork of this process, so that a crash in it does not affect this process."""

import os
import traceback
from collections.abc import Callable

from harness.forking.threads import count_threads, refusal
from harness.utils.subprocesses import end_with_parent

RAISED = 3
"""Exit status of a fork in which the function raised an exception."""


def run_in_a_fork(function: Callable[[], bytes], began: Callable[[int], None]) -> tuple[bytes, int]:
    """Run ``function`` in a fork of this process. Return (its result, return code of the fork as in ``subprocess``).

    The result is empty if the fork crashed. ``began`` is called in this process with the process id of the fork. Raises
    RuntimeError if this process has more than one thread, because then it can't be forked (``forking/threads.py``).
    """
    if (threads := count_threads()) > 1:
        raise RuntimeError(refusal(threads))
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run_fork(parent, function, writing)
    os.close(writing)
    began(pid)
    with open(reading, "rb") as pipe:
        returned = pipe.read()
    _, status = os.waitpid(pid, 0)
    return returned, os.waitstatus_to_exitcode(status)


def _run_fork(parent: int, function: Callable[[], bytes], writing: int) -> None:
    status = RAISED
    try:
        end_with_parent(parent)
        with open(writing, "wb") as pipe:
            pipe.write(function())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
