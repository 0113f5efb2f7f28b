"""Keep the engines and servers of a process.

An engine or server is started for the first case that needs it, and used again for later cases.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.drivers.base import Driver, Session, UnavailableError
from harness.drivers.optional import compilation_of, inheritable
from harness.drivers.server_pool import ServerNeed, ServerPool
from harness.drivers.start_failures import StartFailures, is_a_mistake
from harness.types import EngineSetup
from harness.utils import spent

if TYPE_CHECKING:
    from harness.drivers.client import Client


@dataclass
class EnginePool:
    """The engines and servers that the cases of a process share. There is one engine for each setup.

    ``start_failures`` has the engines and servers that did not start. Their start is not attempted again. ``made_in``
    is the id of the process that created the pool.
    """

    driver: Driver
    sessions: dict[EngineSetup, Session] = field(default_factory=dict)
    servers: ServerPool = field(default_factory=ServerPool)
    start_failures: StartFailures = field(default_factory=lambda: StartFailures(None, {}))
    made_in: int = field(default_factory=os.getpid)

    @property
    def in_a_child(self) -> bool:
        """Return whether this process is a fork of the process that started the engines."""
        return os.getpid() != self.made_in

    def session(self, setup: EngineSetup) -> Session:
        """Return the session of the engine for ``setup``. The first call with this setup starts the engine.

        Raises UnavailableError if the engine can't run on this machine, CheckpointError if the model can't be used,
        ValueError if the setup is invalid, and EngineStartError if the engine does not start. If the start has failed
        before in this run, EngineStartError is raised without another attempt.
        """
        if setup not in self.sessions:
            self.start_failures.raise_known(setup)
            began = time.perf_counter()
            session = self.sessions[setup] = self._open(setup)
            compiles = compilation_of(session) is not None
            spent.add("traced" if compiles else "engines", 1)
            spent.add("tracing" if compiles else "opening", time.perf_counter() - began)
        return self.sessions[setup]

    def _open(self, setup: EngineSetup) -> Session:
        try:
            return self.driver.open(setup)
        except Exception as error:
            if is_a_mistake(error):
                raise
            raise self.start_failures.remember(setup, error) from error

    def warm_up(self, setups: Iterable[EngineSetup]) -> None:
        """Start the engine for each of ``setups`` whose engine can be used in forks of this process.

        Errors are ignored, because the forks start the engine again and report the error.
        """
        for setup in dict.fromkeys(setups):
            if self.driver.unavailable(setup) is None and inheritable(self.driver, setup):
                with suppress(Exception):
                    self.session(setup)

    def discard(self, setup: EngineSetup) -> None:
        """Close the engine for ``setup``, because its state is unknown. The next case starts a new one."""
        session = self.sessions.pop(setup, None)
        if session is not None:
            session.close()

    def server(self, need: ServerNeed, case: str) -> "Client":
        """Return a client of a server for a test. ``need`` describes the server, ``case`` is the node id of the test.

        Raises UnavailableError if the server does not start or can't have the limits of the test, and EngineStartError
        if its start has failed before in this run. Raises DirtyServerError if even a server that was started for this
        test has limits or metrics that a new server would not have.
        """
        self.start_failures.raise_known(need)
        try:
            return self.servers.client(self.driver, need, case)
        except UnavailableError as error:
            self.start_failures.remember(need, error)
            raise

    def warm_up_server(self, need: ServerNeed, case: str) -> None:
        """Start the server described by ``need``, so that a fork of this process can use it for the test ``case``.

        If the server is already running, remove the state of the last test. Do nothing if the test needs a server that
        no other test uses. Errors are ignored, because the fork reports them. ``case`` is the node id of the test.
        """
        if not need.alone and self.driver.unavailable(need.setup) is None:
            with suppress(Exception):
                self.server(need, case)

    def close(self) -> None:
        """Close all engines and servers."""
        for setup in list(self.sessions):
            self.discard(setup)
        self.servers.close()
