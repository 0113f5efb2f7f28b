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
    """A driver whose engines batch in one way only."""

    scheduler: "Scheduler"


def scheduler_of(driver: Driver) -> "Scheduler":
    """How requests are batched where no suite says it: as the driver's engines do, else by the default scheduler."""
    scheduler: Scheduler = getattr(driver, "scheduler", DEFAULT_SCHEDULER)
    return scheduler


class OfVllm(Protocol):
    """A driver whose engines are vLLM's."""

    vllm_version: str | None


def vllm_version_of(driver: Driver) -> str | None:
    """The version of vLLM that a driver runs, such as ``0.27.1``; None where it runs none, or can't say."""
    version: str | None = getattr(driver, "vllm_version", None)
    return version


class LabelsBackends(Protocol):
    """A driver that runs a backend in more than one way."""

    def backend_label(self, backend: str) -> str:
        """What reports call that backend: its name, and ``(simulated)`` where no card is behind it."""


def backend_label(driver: Driver, backend: str) -> str:
    """What reports call a backend of a driver: its name, where the driver has no other."""
    return driver.backend_label(backend) if _labels_backends(driver) else backend


class Preloads(Protocol):
    """A driver whose engines start quickly in forks of a process that has imported what they need."""

    def preload(self) -> None:
        """Import what an engine will need, without running any of it."""


def preload(driver: Driver) -> None:
    """Import what engines of a driver need, where it says what that is."""
    if _preloads(driver):
        driver.preload()


class Forkable(Preloads, Protocol):
    """A driver whose engines, where they are on no card, start in a fork of a process that has preloaded them."""

    def inheritable(self, setup: EngineSetup) -> bool:
        """Whether a forked child can use such an engine of its parent: no other processes, no threads, and nothing of
        a card in it.
        """

    def compile_key(self, setup: EngineSetup) -> Hashable:
        """What engines have in common that can inherit what one of them compiled; None where they compile nothing."""


def starts_in_forks(driver: Driver) -> bool:
    """Whether engines of a driver that are on no card start in forks."""
    return _forkable(driver)


def inheritable(driver: Driver, setup: EngineSetup) -> bool:
    """Whether a forked child can use an engine of its parent."""
    return _forkable(driver) and driver.inheritable(setup)


def compile_key(driver: Driver, setup: EngineSetup) -> Hashable:
    """What engines have in common that can inherit what one of them compiled; None where there is nothing."""
    return driver.compile_key(setup) if _forkable(driver) else None


class SharedServer(Protocol):
    """A server whose limits and options can be changed while it runs."""

    def client(self, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """The server with these limits and options, proven clean.

        Raises DirtyServerError (server_pool.py); UnavailableError for limits that no server can have.
        """

    def end(self) -> None:
        """End its process; idempotent."""


class Serves(Protocol):
    """A driver with the capability ``http``."""

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> str | None:
        """Why its server is not one for a case over HTTP with these limits, in one sentence, or None."""

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """Start a server with these limits. UnavailableError where that cannot work."""

    def share(self, setup: EngineSetup) -> SharedServer | None:
        """Start a server whose limits and options can be changed between cases; None where each set takes another.

        UnavailableError where it does not start.
        """


def serves(driver: object) -> TypeGuard[Serves]:
    """Whether a driver has servers."""
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
        """What was compiled for it so far; None where nothing is."""


def compilation_of(session: Session) -> Compilation | None:
    """What was compiled for an engine so far; None where nothing is, or where that cannot be seen."""
    compilation: Compilation | None = getattr(session, "compilation", None)
    return compilation


class OfflineSession(Session, Protocol):
    """A session of a driver with the capability ``offline-api``."""

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        """Run requests through the offline API. RefusedError where it refuses one."""

    def client(self, options: "ServerOptions") -> "Client":
        """The entry points of this process."""


def is_offline(session: Session) -> TypeGuard[OfflineSession]:
    """Whether a session has entry points in this process."""
    return hasattr(session, "generate")


def steps_of_generate(session: Session) -> Sequence[tuple[StepRecord, Observation]]:
    """Every step of the last ``generate``, requests named by their position in it; empty where not visible."""
    steps = getattr(session, "steps_of_generate", None)
    seen: Sequence[tuple[StepRecord, Observation]] = () if steps is None else steps()
    return seen
