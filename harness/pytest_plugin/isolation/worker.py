"""``Worker``: start a child process, run cases in it with a timeout, and end it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from multiprocessing import Pipe
from tempfile import TemporaryFile
from typing import IO

from harness.pytest_plugin.isolation.launching import Files, Launch, how_it_ended
from harness.pytest_plugin.isolation.messages import Broken, Done, Start, Word
from harness.pytest_plugin.isolation.stacks import stacks_below, stacks_of

LOOK_SECONDS = 0.25
"""Interval, in seconds, at which it is checked that the child still runs, while its next message is awaited."""
START_SECONDS = 1800.0
"""Timeout for starting an engine, in seconds. On a card, the model is compiled at the start."""
END_SECONDS = 20.0
"""Timeout for closing an engine, in seconds."""
SLOW_CASE = "this case took longer than {:g} s (--cb-case-timeout)"
SLOW_ENGINE = "starting an engine or server for this case took longer than {:g} s"
SLOW_CHILD = "the process of this case took longer than {:g} s to start"
"""What took too long when a timeout has expired."""


class Worker:
    """A child process that runs cases. The constructor starts it with ``launch``, and raises what ``launch`` raises.

    ``close`` and ``kill`` end the child. It also ends when this process ends.
    """

    def __init__(self, start: Start, launch: Launch) -> None:
        self._shown = start.shown
        self._stacks = _file()
        self._printed: tuple[IO[bytes], ...] = () if start.shown else (_file(), _file())
        self._offsets = (0, 0)
        self._running: int | None = None
        self._connection, its = Pipe()
        with its:
            try:
                self.process = launch(start, Files(its.fileno(), self._stacks.fileno(), *map(_number, self._printed)))
            except BaseException:
                self._release()
                raise
        with contextlib.suppress(OSError):  # The child has ended already. The first call of ``run`` reports it.
            self._connection.send(start)
        self._is_ready = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ended(self) -> str:
        """Wait for the end of the child, and return a sentence that says how it ended."""
        return f"the process of the engine {how_it_ended(self.process.wait())}"

    def run(self, name: str, limit: float | None) -> Done | Broken:
        """Run the test with the node id ``name``. Return its reports, or the reason why it was not run to its end.

        ``limit`` is the timeout in seconds, None if there is none. It does not include the start of an engine.
        """
        while not self._is_ready:
            word = self._next(START_SECONDS, SLOW_CHILD)
            if isinstance(word, Broken):
                return word
            self._is_ready = word["word"] == "ready"
        self._offsets = self._sizes()
        self._running = None
        with contextlib.suppress(OSError):  # The child has ended. ``_outcome`` reports it.
            self._connection.send_bytes(name.encode())
        return self._outcome(name, limit)

    def _outcome(self, name: str, limit: float | None) -> Done | Broken:
        allowed, slow = limit, SLOW_CASE
        while True:
            word = self._next(allowed, slow)
            if isinstance(word, Broken):
                return word
            match word["word"]:
                case "running":
                    self._running = word["pid"]
                case "opening":
                    allowed = max(limit, START_SECONDS) if limit is not None else None
                    slow = SLOW_ENGINE
                case "opened":
                    allowed, slow = limit, SLOW_CASE
                case "reports":
                    return Done(word["reports"])
                case "died":
                    return self._broken(f"the process that ran this case {how_it_ended(word['returncode'])}")
                case "missing":
                    return self._broken(f"the process that runs the cases of this engine did not collect {name}")

    def _next(self, allowed: float | None, slow: str) -> Word | Broken:
        """Return the next message from the child.

        Return ``Broken`` if there is no message within ``allowed`` seconds, or if the child has ended. ``slow`` is what
        to report after a timeout: ``SLOW_CASE``, ``SLOW_ENGINE`` or ``SLOW_CHILD``.
        """
        give_up = None if allowed is None else time.monotonic() + allowed
        while True:
            left = LOOK_SECONDS if give_up is None else min(LOOK_SECONDS, give_up - time.monotonic())
            try:
                ended = not self.alive
                if self._connection.poll(max(0.0, left)):
                    word: Word = json.loads(self._connection.recv_bytes())
                    return word
            except (EOFError, OSError):
                ended = True
            if ended:
                return self._broken(f"the process that ran this case {how_it_ended(self._returncode())}")
            if give_up is not None and time.monotonic() > give_up:
                return self._hung(allowed, slow)

    def _hung(self, allowed: float | None, slow: str) -> Broken:
        pid = self._running or self.process.pid
        stacks = stacks_of(pid, self._stacks)
        below = stacks_below(pid, self._printed[1] if self._printed else None)
        what = f"{slow.format(allowed)}, so the process of the case was killed"
        broken = self._broken(what, ("the process was in:", "", *(stacks or ["(it wrote no stacks)"]), *below))
        self.kill()
        return broken

    def _broken(self, what: str, more: tuple[str, ...] = ()) -> Broken:
        texts = [_since(file, offset) for file, offset in zip(self._printed, self._offsets, strict=False)]
        return Broken(what, more, *(texts or ["", ""]))

    def _sizes(self) -> tuple[int, int]:
        out, err = (os.fstat(file.fileno()).st_size for file in self._printed or (self._stacks, self._stacks))
        return out, err

    def _returncode(self) -> int:
        """Return the return code of the child, which has ended or is about to end."""
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def close(self) -> None:
        """Make the child close its engines and end. Kill it if this takes too long. Can be called more than once."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(b"")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the child and all processes of its process group."""
        if self.alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._release()

    def _release(self) -> None:
        self._connection.close()
        for file in (self._stacks, *self._printed):
            file.close()


def _file() -> IO[bytes]:
    return TemporaryFile()


def _number(file: IO[bytes]) -> int:
    return file.fileno()


def _since(file: IO[bytes], offset: int) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size - offset, offset).decode(errors="replace")
