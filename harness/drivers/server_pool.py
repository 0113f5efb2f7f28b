"""The servers of a process, each for one test alone or shared by all tests of an engine shape, one after the other.

A shared server gets the limits and options of a test, and is checked to be in the state of a new server before the test
uses it. Otherwise it is replaced, which is reported.
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
"""Number of servers that are kept for later cases of a process."""


class DirtyServerError(Exception):
    """A shared server is not in the state of a new one, or does not answer. The message says what is wrong."""


@dataclass(frozen=True)
class ServerNeed:
    """The server that a test needs. ``alone``: the test kills, drains or restarts it, so it is not shared."""

    setup: EngineSetup
    limits: SchedulingLimits
    options: "ServerOptions"
    alone: bool

    @property
    def key(self) -> Hashable:
        """Return a key that is equal for tests that can share a server."""
        return (self.setup, self.limits, self.options) if self.alone else self.setup


@dataclass
class _Kept:
    """A server, and the last case that used it. ``started_in``: the process that has to end it."""

    client: "Client | None"
    shared: SharedServer | None
    started_in: int = field(default_factory=lambda: os.getpid())
    last_case: str = ""

    def end(self) -> None:
        if self.started_in != os.getpid():
            return  # a fork has the list of its parent's servers, but must not end them
        if self.shared is not None:
            self.shared.end()
        if self.client is not None:
            self.client.close()


@dataclass
class ServerPool:
    """Servers by the key of the tests that share them. At most ``MAX_SERVERS`` are kept."""

    _kept: dict[Hashable, _Kept] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def client(self, driver: Driver, need: ServerNeed, case: str) -> "Client":
        """Return a client of the server that ``case`` needs. Starts a server if there is no usable one.

        Raises UnavailableError, and DirtyServerError if even a new server is not clean.
        """
        try:
            return self._proven(driver, need, case)
        except DirtyServerError as error:
            before = self._kept[need.key].last_case
            self.discard(need)
            if not before:
                raise
            self._notes.append(f"a server was replaced: it was not clean after {before}: {error}")
        try:
            return self._proven(driver, need, case)
        except DirtyServerError:
            self.discard(need)
            raise

    def _proven(self, driver: Driver, need: ServerNeed, case: str) -> "Client":
        kept = self._kept.pop(need.key, None)
        if kept is None:
            while len(self._kept) >= MAX_SERVERS:  # evict the least recently used
                self._kept.pop(next(iter(self._kept))).end()
            kept = _start(driver, need)
        self._kept[need.key] = kept
        client = kept.client if kept.shared is None else kept.shared.client(need.limits, need.options)
        assert client is not None
        kept.last_case = case
        return client

    def discard(self, need: ServerNeed) -> None:
        """End a server that may be in a bad state. The next case starts a new one."""
        kept = self._kept.pop(need.key, None)
        if kept is not None:
            kept.end()

    def take_notes(self) -> list[str]:
        """Return the replacements since the last call, one sentence each."""
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
            raise UnavailableError(f"the {driver.name} driver has no server")
        shared = None if need.alone else driver.share(need.setup)
        return _Kept(None if shared else driver.serve(need.setup, need.limits, need.options), shared)
