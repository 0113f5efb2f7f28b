"""Get the Python stacks of a hung process and of its descendants.

Processes that have registered ``faulthandler`` for SIGUSR1 write their stacks when they get this signal, even during a
call into C. Descendants are found in ``/proc``. On systems without ``/proc``, only the process itself gets the signal.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ANSWER_SECONDS = 2.0
"""Maximum time to wait until a process has written its stacks, in seconds."""
LOOK_SECONDS = 0.1
PROCESSES = Path("/proc")


def stacks_of(pid: int, file: IO[bytes]) -> list[str]:
    """Make the process ``pid`` write its stacks to ``file``, and return their lines, [] if the process writes none."""
    began = _size(file)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    give_up, size = time.monotonic() + ANSWER_SECONDS, -1
    while time.monotonic() < give_up and (size <= began or size != _size(file)):
        size = _size(file)
        time.sleep(LOOK_SECONDS)
    text = os.pread(file.fileno(), max(0, size - began), began).decode(errors="replace")
    return without_pytest(text.splitlines())


def stacks_below(pid: int, stderr: IO[bytes] | None) -> list[str]:
    """Return the stacks of all descendants of process ``pid`` that handle SIGUSR1, each after a line with the process.

    ``stderr`` is the file to which the descendants write their stacks, None if they write to the terminal.
    """
    lines: list[str] = []
    for child in descendants(pid):
        if handles_sigusr1(child):
            lines += ["", f"child process {child} ({command(child)}):", ""]
            written = _written_to_terminal(child) if stderr is None else stacks_of(child, stderr)
            lines += written or ["(no stacks)"]
    return lines


def _written_to_terminal(pid: int) -> list[str]:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    return ["(written to stderr)"]


def descendants(pid: int) -> list[int]:
    """Return the ids of the descendants of process ``pid``. Each process comes before its own children."""
    children: dict[int, list[int]] = {}
    for stat in PROCESSES.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Field 2 of the file is the name in parentheses, which may itself contain spaces and parentheses.
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))

    def below(parent: int) -> Iterator[int]:
        for child in sorted(children.get(parent, ())):
            yield child
            yield from below(child)

    return list(below(pid))


def handles_sigusr1(pid: int) -> bool:
    """Return whether a process has a handler for SIGUSR1. Without a handler, the signal would kill it."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        status = (PROCESSES / str(pid) / "status").read_text().splitlines()
        caught = next(line for line in status if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def command(pid: int) -> str:
    """Return the module that a process runs with ``python -m``, or the command line if it runs another program."""
    with contextlib.suppress(OSError):
        words = (PROCESSES / str(pid) / "cmdline").read_text().rstrip("\0").split("\0")
        return words[words.index("-m") + 1] if "-m" in words[:-1] else " ".join(words)
    return "ended"


def without_pytest(stacks: Sequence[str]) -> list[str]:
    """Return the lines of stacks without pytest's frames, which are the same for all cases."""
    kept, of_pytest = [], False
    for line in stacks:
        of_pytest = of_pytest and line.startswith("  File ")
        if not of_pytest:
            kept.append(line)
        of_pytest = of_pytest or "harness/pytest_plugin/items.py" in line
    return kept


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
