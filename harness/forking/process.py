"""One fork, from the process that asked for it; looks like ``subprocess.Popen`` as far as that is needed."""

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
"""What a branch may take to be prepared: an engine is started in it."""


class ServerGoneError(Exception):
    """There is no server to fork from at this address any more."""


class ForkRefusedError(Exception):
    """The server does not fork; one sentence says why."""


class ForkedProcess:
    """A fork of the server at ``address``, made by the call.

    It is killed when its connection closes, at the latest with this process.

    Raises ServerGoneError and ForkRefusedError.
    """

    def __init__(self, address: Path, request: Request, fds: Sequence[int]) -> None:
        self.returncode: int | None = None
        try:
            self._connection, self.pid = _asked(address, request, fds)
        except _NoAnswerError:
            if request.branch is None:
                raise ServerGoneError from None
            # It may have been the branch that died of what it prepared: then the fork will, and say so.
            try:
                self._connection, self.pid = _asked(address, replace(request, without_branch=True), fds)
            except _NoAnswerError:
                raise ServerGoneError from None

    def poll(self) -> int | None:
        """The return code, None where it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        returncode = self._look(timeout)
        if returncode is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
        return returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
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
                self.returncode = -signal.SIGKILL  # the server ended, and its forks with it
            self._connection.close()
        return self.returncode


class _NoAnswerError(Exception):
    """The connection ended before there was a fork."""


def _asked(address: Path, request: Request, fds: Sequence[int]) -> tuple[socket.socket, int]:
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
