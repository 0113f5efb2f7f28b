"""The handle of a fork in the requesting process, with the needed part of ``subprocess.Popen``'s interface."""

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
"""Timeout for preparing a branch, in seconds: an engine is started in it."""


class ServerGoneError(Exception):
    """There is no longer a server at this address."""


class ForkRefusedError(Exception):
    """The server refuses to fork. The message is one sentence."""


class ForkedProcess:
    """A fork of the server at ``address``, created by the constructor.

    It is killed when its connection closes, at the latest with this process. Raises ServerGoneError and
    ForkRefusedError.
    """

    def __init__(self, address: Path, request: Request, fds: Sequence[int]) -> None:
        self.returncode: int | None = None
        try:
            self._connection, self.pid = _requested(address, request, fds)
        except _NoAnswerError:
            if request.branch is None:
                raise ServerGoneError from None
            # The branch may have died while it was prepared: then the fork fails in the same way, with a message.
            try:
                self._connection, self.pid = _requested(address, replace(request, without_branch=True), fds)
            except _NoAnswerError:
                raise ServerGoneError from None

    def poll(self) -> int | None:
        """Return the return code, None if the process is running."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the return code. Raises subprocess.TimeoutExpired."""
        returncode = self._look(timeout)
        if returncode is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
        return returncode

    def send_signal(self, number: int) -> None:
        """Send a signal. Does nothing if the process has ended."""
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
                self.returncode = -signal.SIGKILL  # the server has ended, and killed its forks
            self._connection.close()
        return self.returncode


class _NoAnswerError(Exception):
    """The connection was closed before there was a fork."""


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
