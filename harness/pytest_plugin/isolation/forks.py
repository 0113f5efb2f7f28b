"""One function in a fork of this process, which may crash or hang without taking it along."""

import os
import traceback
from collections.abc import Callable

from harness.forking.threads import count_threads, refusal
from harness.utils.subprocesses import end_with_parent

RAISED = 3
"""The exit status of a fork in which something was raised that pytest does not report."""


def run_in_a_fork(function: Callable[[], bytes], began: Callable[[int], None]) -> tuple[bytes, int]:
    """What ``function`` returns, and the return code of the fork: minus the signal that ended it.

    ``began`` is told its process id. RuntimeError where this process has other threads (``forking/threads.py``).
    """
    if (threads := count_threads()) > 1:
        raise RuntimeError(refusal(threads))
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_the_fork(parent, function, writing)
    os.close(writing)
    began(pid)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said, os.waitstatus_to_exitcode(status)


def _be_the_fork(parent: int, function: Callable[[], bytes], writing: int) -> None:
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
