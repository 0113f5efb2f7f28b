"""The engines and servers of a process, each started by the first case that needs it and kept for the next."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.drivers.base import Driver, Session
from harness.drivers.optional import compilation_of, inheritable
from harness.drivers.server_pool import ServerNeed, ServerPool
from harness.types import EngineSetup
from harness.utils import spent

if TYPE_CHECKING:
    from harness.drivers.client import Client


@dataclass
class EnginePool:
    """One warm engine a setup, for every case of a process."""

    driver: Driver
    sessions: dict[EngineSetup, Session] = field(default_factory=dict)
    servers: ServerPool = field(default_factory=ServerPool)
    made_in: int = field(default_factory=os.getpid)

    @property
    def in_a_child(self) -> bool:
        """Whether this is a forked child of the process whose pool this was."""
        return os.getpid() != self.made_in

    def session(self, setup: EngineSetup) -> Session:
        """The engine for ``setup``, started at the first call."""
        if setup not in self.sessions:
            began = time.perf_counter()
            session = self.sessions[setup] = self.driver.open(setup)
            compiles = compilation_of(session) is not None
            spent.add("traced" if compiles else "engines", 1)
            spent.add("tracing" if compiles else "opening", time.perf_counter() - began)
        return self.sessions[setup]

    def warm_up(self, setups: Iterable[EngineSetup]) -> None:
        """Start what forked children can inherit. What does not start is left to them: they say why."""
        for setup in dict.fromkeys(setups):
            if self.driver.unavailable(setup) is None and inheritable(self.driver, setup):
                with suppress(Exception):
                    self.session(setup)

    def discard(self, setup: EngineSetup) -> None:
        """Close an engine that may be in a bad state; the next case starts another."""
        session = self.sessions.pop(setup, None)
        if session is not None:
            session.close()

    def server(self, need: ServerNeed, case: str) -> "Client":
        """The server that ``case`` needs. Raises UnavailableError and DirtyServerError."""
        return self.servers.client(self.driver, need, case)

    def warm_up_server(self, need: ServerNeed, case: str) -> None:
        """Start, or prove clean, a server that forked children can share. What goes wrong is left to them to say."""
        if not need.alone and self.driver.unavailable(need.setup) is None:
            with suppress(Exception):
                self.server(need, case)

    def close(self) -> None:
        """Close every engine and every server."""
        for setup in list(self.sessions):
            self.discard(setup)
        self.servers.close()
