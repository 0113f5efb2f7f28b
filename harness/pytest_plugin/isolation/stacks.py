"""Where the threads of a process are, and those of the processes that it started: asked of them by SIGUSR1.

Whoever has registered ``faulthandler`` for it answers, even from the midst of a call into C. Processes are looked up in
``/proc``; where there is none, only the first is asked.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ANSWER_SECONDS = 2.0
"""What a process may take to say where it is."""
LOOK_SECONDS = 0.1
PROCESSES = Path("/proc")


def stacks_of(pid: int, file: IO[bytes]) -> list[str]:
    """The stacks that process ``pid`` writes to ``file``; empty where it does not say."""
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
    """Those of all the processes that ``pid`` started and that would answer, each with a line that says who it is.

    ``stderr`` is the file that they all write to; None where that is the terminal.
    """
    lines: list[str] = []
    for child in descendants(pid):
        if answers(child):
            lines += ["", f"process {child} of it ({command(child)}):", ""]
            said = _asked_aloud(child) if stderr is None else stacks_of(child, stderr)
            lines += said or ["(it did not say)"]
    return lines


def _asked_aloud(pid: int) -> list[str]:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    return ["(it said so on stderr)"]


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` started, those that they started, and so on, the oldest first."""
    children: dict[int, list[int]] = {}
    for stat in PROCESSES.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may have blanks and brackets in it.
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))

    def below(parent: int) -> Iterator[int]:
        for child in sorted(children.get(parent, ())):
            yield child
            yield from below(child)

    return list(below(pid))


def answers(pid: int) -> bool:
    """Whether a process has a handler for SIGUSR1; one that has none would be ended by it."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        status = (PROCESSES / str(pid) / "status").read_text().splitlines()
        caught = next(line for line in status if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def command(pid: int) -> str:
    """What it runs: the module, where there is one, else its command line."""
    with contextlib.suppress(OSError):
        words = (PROCESSES / str(pid) / "cmdline").read_text().rstrip("\0").split("\0")
        return words[words.index("-m") + 1] if "-m" in words[:-1] else " ".join(words)
    return "it has ended"


def without_pytest(stacks: Sequence[str]) -> list[str]:
    """The stacks of a process without the frames of pytest, which are the same for every case."""
    kept, of_pytest = [], False
    for line in stacks:
        of_pytest = of_pytest and line.startswith("  File ")
        if not of_pytest:
            kept.append(line)
        of_pytest = of_pytest or "harness/pytest_plugin/items.py" in line
    return kept


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
