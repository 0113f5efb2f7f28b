"""What a driver or a session may have beyond ``base.py``, as small protocols; and what holds where it has not.

A driver is asked by the functions of this file and nowhere else, so a driver without a part needs no answer for it.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeGuard

from harness.drivers.base import Compilation, Completion, Driver, Observation, Session, StepRecord
from harness.types import DEFAULT_SCHEDULER, EngineSetup, RequestSpec, SchedulingLimits

if TYPE_CHECKING:
    from harness.drivers.client import Client
    from harness.suites.schema import Scheduler, ServerOptions


# --- drivers ----------------------------------------------------------------------------------------------------


class OfOneScheduler(Protocol):
    """A driver whose engines have one scheduler only."""

    scheduler: "Scheduler"


def scheduler_of(driver: Driver) -> "Scheduler":
    """Return the scheduler for suites that name none: the one of the driver's engines, else the default."""
    scheduler: Scheduler = getattr(driver, "scheduler", DEFAULT_SCHEDULER)
    return scheduler


class OfVllm(Protocol):
    """A driver whose engines are vLLM's."""

    vllm_version: str | None


def vllm_version_of(driver: Driver) -> str | None:
    """Return the version of vLLM that a driver runs, such as ``0.27.1``; None for other engines or if not known."""
    version: str | None = getattr(driver, "vllm_version", None)
    return version


class LabelsBackends(Protocol):
    """A driver that runs a backend in more than one way."""

    def backend_label(self, backend: str) -> str:
        """Return the name of a backend in reports, with ``(simulated)`` if there is no card."""


def backend_label(driver: Driver, backend: str) -> str:
    """Return the name of a driver's backend in reports, by default its own name."""
    return driver.backend_label(backend) if _labels_backends(driver) else backend


class Preloads(Protocol):
    """A driver whose engines start quickly in forks of a process that has imported their modules."""

    def preload(self) -> None:
        """Import modules that an engine needs, without running any of it."""


def preload(driver: Driver) -> None:
    """Import modules that a driver's engines need, if it implements Preloads."""
    if _preloads(driver):
        driver.preload()


class Forkable(Preloads, Protocol):
    """A driver whose engines can start in a fork of a process with preloaded modules, if they use no card."""

    def inheritable(self, setup: EngineSetup) -> bool:
        """Return whether a forked child can use such an engine of its parent.

        That requires an engine without other processes, threads or card resources.
        """

    def compile_key(self, setup: EngineSetup) -> Hashable:
        """Return a key that is equal for engines that can inherit each other's compiled code, or None."""


def starts_in_forks(driver: Driver) -> bool:
    """Return whether engines of a driver can start in forks if they use no card."""
    return _forkable(driver)


def inheritable(driver: Driver, setup: EngineSetup) -> bool:
    """Return whether a forked child can use an engine of its parent."""
    return _forkable(driver) and driver.inheritable(setup)


def compile_key(driver: Driver, setup: EngineSetup) -> Hashable:
    """Return a key that is equal for engines that can inherit each other's compiled code, or None."""
    return driver.compile_key(setup) if _forkable(driver) else None


class SharedServer(Protocol):
    """A server whose limits and options can be changed while it runs."""

    def client(self, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """Apply these limits and options, check that the server is clean, and return a client.

        Raises DirtyServerError (server_pool.py), and UnavailableError for impossible limits.
        """

    def end(self) -> None:
        """End the server's process. Idempotent."""


class Serves(Protocol):
    """A driver with the capability ``http``."""

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> str | None:
        """Return why the driver's server can't be used for a case over HTTP, as one sentence, or None."""

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """Start a server with these limits and return a client. Raises UnavailableError if that is impossible here."""

    def share(self, setup: EngineSetup) -> SharedServer | None:
        """Start a server whose limits and options can be changed between cases, None if the driver has no such server.

        Raises UnavailableError if the server does not start.
        """


def serves(driver: object) -> TypeGuard[Serves]:
    """Return whether a driver has servers."""
    return hasattr(driver, "serve")


def _labels_backends(driver: object) -> TypeGuard[LabelsBackends]:
    return hasattr(driver, "backend_label")


def _preloads(driver: object) -> TypeGuard[Preloads]:
    return hasattr(driver, "preload")


def _forkable(driver: object) -> TypeGuard[Forkable]:
    return hasattr(driver, "inheritable")


# --- sessions ---------------------------------------------------------------------------------------------------


class Compiled(Protocol):
    """A session of an engine that may compile."""

    @property
    def compilation(self) -> Compilation | None:
        """Return what has been compiled so far, None if nothing is compiled."""


def compilation_of(session: Session) -> Compilation | None:
    """Return what has been compiled for an engine so far, None if nothing is compiled or it can't be observed."""
    compilation: Compilation | None = getattr(session, "compilation", None)
    return compilation


class OfflineSession(Session, Protocol):
    """A session of a driver with the capability ``offline-api``."""

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        """Run requests through the offline API. Raises RefusedError if it refuses one."""

    def client(self, options: "ServerOptions") -> "Client":
        """Return a client of the entry points in this process."""


def is_offline(session: Session) -> TypeGuard[OfflineSession]:
    """Return whether a session has entry points in this process."""
    return hasattr(session, "generate")


def steps_of_generate(session: Session) -> Sequence[tuple[StepRecord, Observation]]:
    """Return the steps of the last ``generate``, with requests by their position; empty if they are not visible."""
    steps = getattr(session, "steps_of_generate", None)
    seen: Sequence[tuple[StepRecord, Observation]] = () if steps is None else steps()
    return seen
