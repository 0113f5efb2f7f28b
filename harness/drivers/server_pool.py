"""The servers of a process: for one test alone, or shared by all tests of an engine shape, one after the other.

A shared server is held to a test's limits and options, and proven to be as one that was just started, before the test
gets it. One that is not is replaced, which is reported.
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
"""Servers that are kept for later cases of a process."""


class DirtyServerError(Exception):
    """A shared server that is not as one that was just started, or does not answer; the message says what is wrong."""


@dataclass(frozen=True)
class ServerNeed:
    """The server that a test wants. ``alone``: it kills, drains or restarts it, and no other test may have it."""

    setup: EngineSetup
    limits: SchedulingLimits
    options: "ServerOptions"
    alone: bool

    @property
    def key(self) -> Hashable:
        """What tests have in common that can use the same server one after the other."""
        return (self.setup, self.limits, self.options) if self.alone else self.setup


@dataclass
class _Kept:
    """A server, and the last case that had it. ``started_in``: the process that has to end it."""

    client: "Client | None"
    shared: SharedServer | None
    started_in: int = field(default_factory=lambda: os.getpid())
    last_case: str = ""

    def end(self) -> None:
        if self.started_in != os.getpid():
            return  # a fork knows its parent's servers, and leaves them to it
        if self.shared is not None:
            self.shared.end()
        if self.client is not None:
            self.client.close()


@dataclass
class ServerPool:
    """Servers by what tests have in common that use them. Only ``MAX_SERVERS`` are kept."""

    _kept: dict[Hashable, _Kept] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def client(self, driver: Driver, need: ServerNeed, case: str) -> "Client":
        """The server that ``case`` needs, started where there is none that can be used.

        Raises UnavailableError, and DirtyServerError where even a new one is not clean.
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
            while len(self._kept) >= MAX_SERVERS:  # the one that was asked for longest ago makes room
                self._kept.pop(next(iter(self._kept))).end()
            kept = _start(driver, need)
        self._kept[need.key] = kept
        client = kept.client if kept.shared is None else kept.shared.client(need.limits, need.options)
        assert client is not None
        kept.last_case = case
        return client

    def discard(self, need: ServerNeed) -> None:
        """End a server that may be in a bad state; the next case starts another."""
        kept = self._kept.pop(need.key, None)
        if kept is not None:
            kept.end()

    def take_notes(self) -> list[str]:
        """What was replaced since this was last asked, a sentence each."""
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
