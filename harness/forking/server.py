"""The fork server: a process that receives requests, forks itself, and reports the return codes of its forks.

A client opens one connection for each fork. It receives ``Forked`` or ``Refused``, and ``Ended`` when the fork has
ended. When a client closes the connection, or dies, its fork is killed with all processes of its process group. When
the server ends, its forks are killed.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from harness.forking.messages import Ended, Forked, Refused, Request
from harness.forking.name import name_module
from harness.forking.threads import count_threads, refusal
from harness.forking.wire import receive, send
from harness.utils.subprocesses import end_with_parent

Handed = tuple[Request, list[int], socket.socket]
"""A client's request for a fork: (the request, the file descriptors sent with it, the connection to the client)."""


@dataclass(frozen=True)
class _Child:
    """A child process of the fork server: a fork for a client or, if ``client`` is None, a branch."""

    pid: int
    pidfd: int
    client: socket.socket | None = None
    branch: Hashable = None


class ForkServer:
    """The fork server: it receives requests from clients, and forks itself for each.

    Several requests can share a branch, a fork of the server that is then forked for each of them. ``prepare(key)`` is
    called in a new branch before it is forked. ``forked()`` is called in the parent process after each fork. ``first``
    is the first request, which the caller has already received.
    """

    def __init__(
        self,
        listener: socket.socket,
        prepare: Callable[[Hashable], None],
        forked: Callable[[], object],
        first: Handed,
    ) -> None:
        self._source = listener
        self._in_branch = False
        self._prepare = prepare
        self._forked = forked
        self._waiting = [first]
        self._children: list[_Child] = []
        self._branches: dict[Hashable, socket.socket] = {}
        self._lost: set[Hashable] = set()
        self._serving = True

    def serve(self) -> tuple[Any, list[int]] | None:
        """Serve requests for forks. The call returns only in forks of the process that made it.

        In each fork for a client, it returns (``work`` of the request, file descriptors for the work). In a branch, it
        returns None when the server closes the connection to the branch. In the server itself, it never returns.
        """
        while self._serving:
            while self._waiting:
                work = self._answer(*self._waiting.pop(0))
                if work is not None:
                    return work
            self._look()
        return None

    def _look(self) -> None:
        clients = {child.client.fileno(): child for child in self._children if child.client is not None}
        pidfds = {child.pidfd: child for child in self._children}
        ready = set(select.select([self._source.fileno(), *clients, *pidfds], [], [])[0])
        for fd in ready & clients.keys():  # After its request a client sends nothing, so it has closed the connection.
            _kill(clients[fd])
        for fd in ready & pidfds.keys():
            self._has_ended(pidfds[fd])
        if self._source.fileno() in ready:
            self._waiting += self._handed() if self._in_branch else self._accepted()

    def _accepted(self) -> list[Handed]:
        client, _ = self._source.accept()
        try:
            request, fds = receive(client)
        except (EOFError, OSError):
            client.close()
            return []
        return [(request, fds, client)]

    def _handed(self) -> list[Handed]:
        """Receive a request that the server has passed on to this branch, and return it in a list.

        If the server has closed the connection, stop serving and return [].
        """
        try:
            request, fds = receive(self._source)
        except (EOFError, OSError):
            self._serving = False
            return []
        return [(request, fds[1:], socket.socket(fileno=fds[0]))]

    def _answer(self, request: Request, fds: list[int], client: socket.socket) -> tuple[Any, list[int]] | None:
        """Fork this process for a request, or pass the request to a branch.

        In the fork, return (``work`` of the request, file descriptors for the work). In this process, return None.
        """
        if request.without_branch:
            self._lose(request.branch)
        elif request.branch is not None and self._hand_over(request, fds, client):
            _close(client, *fds)
            return None
        if (threads := count_threads()) > 1:
            with contextlib.suppress(OSError):
                send(client, Refused(refusal(threads)))
            _close(client, *fds)
            return None
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._forget_clients()
            _close(client)
            return request.work, _become(server, request, fds)
        self._forked()
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # The fork makes the same call, because either of the two processes may run first.
        self._children.append(_Child(pid, os.pidfd_open(pid), client))
        _close(*fds)
        with contextlib.suppress(OSError):  # The client has closed the connection. The next ``_look`` kills its fork.
            send(client, Forked(pid))
        return None

    def _hand_over(self, request: Request, fds: list[int], client: socket.socket) -> bool:
        """Pass a request to the branch that it names, which is created if necessary.

        Return True if the branch will answer the request, and False if this process must answer it. A new branch is a
        fork of this process, so this function also returns in the branch, where it returns True.
        """
        key = request.branch
        if self._in_branch or key in self._lost or count_threads() > 1:
            return False
        if key not in self._branches:
            self._grow(key)
            if self._in_branch:
                return True
        try:
            send(self._branches[key], request, [client.fileno(), *fds])
        except OSError:
            self._lose(key)
            return False
        return True

    def _grow(self, key: Hashable) -> None:
        ours, its = socket.socketpair()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_with_parent(server)
            self._forget_clients()
            ours.close()
            self._source, self._in_branch = its, True
            self._prepare(key)
            return
        self._forked()
        its.close()
        self._branches[key] = ours
        self._children.append(_Child(pid, os.pidfd_open(pid), branch=key))

    def _lose(self, key: Hashable) -> None:
        """Kill the branch with this key, and record the key, so that no branch is created with it again."""
        self._lost.add(key)
        if (connection := self._branches.pop(key, None)) is not None:
            connection.close()
        for child in self._children:
            if child.branch == key and child.client is None:
                _kill(child)

    def _has_ended(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        os.close(child.pidfd)
        self._children.remove(child)
        if child.client is None:
            self._lose(child.branch)
            return
        with contextlib.suppress(OSError):
            send(child.client, Ended(os.waitstatus_to_exitcode(status)))
        child.client.close()

    def _forget_clients(self) -> None:
        """Close the connections and file descriptors of the server that this process, a new fork, has inherited."""
        self._source.close()
        for child in self._children:
            os.close(child.pidfd)
            if child.client is not None:
                child.client.close()
        for connection in self._branches.values():
            connection.close()
        for _, fds, client in self._waiting:
            _close(client, *fds)
        self._children, self._branches, self._waiting = [], {}, []


def _become(server: int, request: Request, fds: list[int]) -> list[int]:
    """Set the environment, the command line and the output of this process, a new fork, as ``request`` says.

    Return the file descriptors for the work of the fork: ``fds`` without those that became stdout and stderr.
    ``server`` is the id of the server's process. The fork ends when the server ends.
    """
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    end_with_parent(server)
    os.environ.clear()
    os.environ.update(request.environ)
    name_module(request.name)
    if not request.own_output:
        return fds
    for standard, fd in enumerate(fds[:2], start=1):
        os.dup2(fd, standard)
        os.close(fd)
    return fds[2:]


def _kill(child: _Child) -> None:
    """Kill a child process, and do not wait for its end. If it is a fork for a client, kill its whole process group."""
    with contextlib.suppress(ProcessLookupError):
        if child.client is None:
            os.kill(child.pid, signal.SIGKILL)
        else:
            os.killpg(child.pid, signal.SIGKILL)


def _close(*opened: socket.socket | int) -> None:
    for each in opened:
        if isinstance(each, int):
            os.close(each)
        else:
            each.close()
