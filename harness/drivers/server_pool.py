"""Keep the servers of a process. Tests with the same engine setup use the same server, one after the other.

Before a test uses a shared server, the limits and options of the test are set on the server. Then the server's limits
and metrics are checked: they must be those of a new server. If they are not, a new server is started in its place, and
the report of the test says so. A test that may stop its server gets a server that no other test uses.
"""

import os
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.drivers.base import Driver, UnavailableError
from harness.drivers.optional import SharedServer, serves
from harness.types import EngineSetup, SchedulingLimits
from harness.utils import spent

if TYPE_CHECKING:
    from harness.drivers.client import Client
    from harness.suites.schema import ServerOptions

MAX_SERVERS = 3
"""Maximum number of servers that a process keeps for later tests."""


class DirtyServerError(Exception):
    """A shared server has limits or metrics that a new server would not have, or does not answer.

    The message says what is wrong.
    """


@dataclass(frozen=True)
class ServerNeed:
    """The server that a test needs: its engine setup, limits and options.

    If ``alone`` is True, no other test may use the server, because this test may stop it.
    """

    setup: EngineSetup
    limits: SchedulingLimits
    options: "ServerOptions"
    alone: bool

    @property
    def key(self) -> Hashable:
        """Return the key of the server in the pool. It is equal for tests that should run one after the other.

        These tests use the same server, except tests with ``alone``: each of them gets a new server.
        """
        return (self.setup, self.limits, self.options) if self.alone else self.setup


@dataclass
class _Kept:
    """A server of the pool, which was started for ``need``.

    If the limits of the server can be changed, ``shared`` is set and ``client`` is None; otherwise the reverse.
    ``started_in`` is the id of the process that has started the server, which is the one that must end it.
    ``last_case`` is the node id of the last test that used the server, "" if no test has used it.
    """

    need: ServerNeed
    client: "Client | None"
    shared: SharedServer | None
    started_in: int = field(default_factory=lambda: os.getpid())
    last_case: str = ""

    def fits(self, need: ServerNeed) -> bool:
        """Return whether a test can use the server.

        The server must have the limits and options that the test needs, unless they can be set on it. A test with
        ``alone`` can't use a server of another test.
        """
        if need.alone:
            return False
        return self.shared is not None or (self.need.limits, self.need.options) == (need.limits, need.options)

    def end(self) -> None:
        if self.started_in != os.getpid():
            return  # This process is a fork of the one that has started the server, and must not end it.
        if self.shared is not None:
            self.shared.end()
        if self.client is not None:
            self.client.close()


@dataclass
class ServerPool:
    """The servers of a process that later tests can use. At most ``MAX_SERVERS`` servers run at the same time."""

    _kept: dict[Hashable, _Kept] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def client(self, driver: Driver, need: ServerNeed, case: str) -> "Client":
        """Return a client of a server for a test. Start a server if no running server can be used.

        ``need`` describes the server, and ``case`` is the node id of the test. Raises UnavailableError if the server
        does not start or can't have the limits of the test. Raises DirtyServerError if even a server that was started
        for this test has limits or metrics that a new server would not have.
        """
        try:
            return self._proven(driver, need, case)
        except DirtyServerError as error:
            before = self._kept[need.key].last_case
            self.discard(need)
            if not before:
                raise
            self._notes.append(f"a server was replaced, because it was not like a new one after {before}: {error}")
        try:
            return self._proven(driver, need, case)
        except DirtyServerError:
            self.discard(need)
            raise

    def _proven(self, driver: Driver, need: ServerNeed, case: str) -> "Client":
        kept = self._kept.pop(need.key, None)
        if kept is not None and not kept.fits(need):
            kept.end()
            kept = None
        if kept is None:
            while len(self._kept) >= MAX_SERVERS:  # End the server that has not been used for the longest time.
                self._kept.pop(next(iter(self._kept))).end()
            kept = _start(driver, need)
        self._kept[need.key] = kept
        client = kept.client if kept.shared is None else kept.shared.client(need.limits, need.options)
        assert client is not None
        kept.last_case = case
        return client

    def discard(self, need: ServerNeed) -> None:
        """End the server for ``need``, because its state is unknown. The next test starts a new one."""
        kept = self._kept.pop(need.key, None)
        if kept is not None:
            kept.end()

    def take_notes(self) -> list[str]:
        """Return a sentence for each server that was replaced since the last call of this method."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """End every server of this process."""
        while self._kept:
            self._kept.popitem()[1].end()


def _start(driver: Driver, need: ServerNeed) -> _Kept:
    spent.add("servers", 1)
    with spent.timed("serving"):
        if not serves(driver):
            raise UnavailableError(f"the driver {driver.name} can't start servers: use --cb-driver openai-http")
        shared = None if need.alone else driver.share(need.setup)
        return _Kept(need, None if shared else driver.serve(need.setup, need.limits, need.options), shared)
