"""``ForkedProcess``, a client's handle of a fork. It has a part of the interface of ``subprocess.Popen``."""

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.forking.messages import Ended, Forked, Refused, Request
from harness.forking.wire import receive, send

ANSWER_SECONDS = 600.0
"""Timeout for the fork server's first answer, in seconds. It is long because a new branch may first start an engine."""


class ServerGoneError(Exception):
    """The fork server has ended, or closed the connection without an answer."""


class ForkRefusedError(Exception):
    """The fork server refuses to fork. The message is the reason, as one sentence."""


class ForkedProcess:
    """A process that the fork server at ``address`` has forked for this process. The constructor requests the fork.

    The server kills the fork when the connection to this process is closed, for example because this process ends. The
    constructor raises ForkRefusedError if the server refuses to fork, and ServerGoneError if the server has ended or
    does not answer.
    """

    def __init__(self, address: Path, request: Request, fds: Sequence[int]) -> None:
        self.returncode: int | None = None
        try:
            self._connection, self.pid = _requested(address, request, fds)
        except _NoAnswerError:
            if request.branch is None:
                raise ServerGoneError from None
            # The branch may have crashed when it started the engine. A fork without a branch then fails in the same
            # way, but its error is reported.
            try:
                self._connection, self.pid = _requested(address, replace(request, without_branch=True), fds)
            except _NoAnswerError:
                raise ServerGoneError from None

    def poll(self) -> int | None:
        """Return the return code of the process, None if it is still running."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends, and return its return code.

        Raises subprocess.TimeoutExpired if the process is still running after ``timeout`` seconds. With None, there is
        no timeout.
        """
        returncode = self._look(timeout)
        if returncode is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
        return returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process. Do nothing if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            try:
                message, _ = receive(self._connection)
                assert isinstance(message, Ended)
                self.returncode = message.returncode
            except (EOFError, OSError):
                self.returncode = -signal.SIGKILL  # The server has ended. Its forks are killed with it.
            self._connection.close()
        return self.returncode


class _NoAnswerError(Exception):
    """The server closed the connection without an answer, or does not listen."""


def _requested(address: Path, request: Request, fds: Sequence[int]) -> tuple[socket.socket, int]:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(address))
        send(connection, request, fds)
        connection.settimeout(ANSWER_SECONDS)
        message, _ = receive(connection)
        connection.settimeout(None)
    except (EOFError, OSError):
        connection.close()
        raise _NoAnswerError from None
    if isinstance(message, Refused):
        connection.close()
        raise ForkRefusedError(message.why)
    assert isinstance(message, Forked)
    return connection, message.pid
