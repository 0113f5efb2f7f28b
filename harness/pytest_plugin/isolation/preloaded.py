"""The preloaded process, from which children are forked: ``python -m harness.pytest_plugin.isolation.preloaded …``.

Its arguments are the file descriptor of a listening socket, the id of its parent process (the preloaded process ends
when the parent ends), the name of a driver, and the attention kernel. The preloaded process imports the modules that
engines of the driver need. At the first request it collects the tests, and afterwards it only forks. It never starts an
engine itself, only its forks start engines. A branch is a fork that starts an engine and is then forked again, so that
its forks inherit the compiled code.
"""

import os
import socket
import sys
from collections.abc import Hashable
from multiprocessing.connection import Connection

import pytest

from harness.drivers.optional import preload
from harness.drivers.registry import DriverOptions, make_driver
from harness.drivers.servers import launch_servers_with
from harness.forking.server import ForkServer, Handed
from harness.forking.wire import receive
from harness.pytest_plugin.isolation.child import Serving, answer_with_stacks, session_of, write_unbuffered
from harness.pytest_plugin.isolation.launching import fork_server
from harness.pytest_plugin.isolation.messages import Branch, Serve, Start
from harness.pytest_plugin.settings import settings_key
from harness.utils import spent
from harness.utils.subprocesses import end_with_parent


class Forking:
    """A pytest plugin in the preloaded process: replaces pytest's run loop by the loop of the fork server.

    Each fork runs the tests that are requested from it, or becomes a server.
    """

    def __init__(self, listener: socket.socket, first: Handed) -> None:
        self._listener = listener
        self._first = first

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        engines = session.config.stash[settings_key].engines

        def prepare(branch: Hashable) -> None:
            assert isinstance(branch, Branch)
            engines.warm_up([branch.setup])

        forked = ForkServer(self._listener, prepare, spent.take, self._first).serve()
        if forked is None:
            return True
        work, fds = forked
        if isinstance(work, Serve):
            from harness.drivers.reference import become_server

            become_server(work.argv)
        connection, stacks = Connection(fds[0]), fds[1]
        answer_with_stacks(stacks)
        engines.made_in = os.getpid()  # This fork owns, and closes, the engines that it starts from now on.
        start: Start = connection.recv()
        if start.parent is not None:
            launch_servers_with(fork_server(start.parent, start.branch))
        serving = Serving(connection, start)
        session.config.pluginmanager.register(serving, "spyre-cb-serving-fork")
        return serving.pytest_runtestloop(session)


def main() -> None:
    listener, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    end_with_parent(parent)
    write_unbuffered()
    preload(make_driver(sys.argv[3], DriverOptions(attention=sys.argv[4] or None)))
    client, _ = listener.accept()
    request, fds = receive(client)
    start: Start = request.work
    status = session_of(start, Forking(listener, (request, fds, client)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # A regular exit would take a second for the teardown of torch. There is nothing to clean up.


if __name__ == "__main__":
    main()
