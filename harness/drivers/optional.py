"""Attributes and methods that a driver or a session can have in addition to those of ``base.py``, as small protocols.

For each protocol, this module has a function that calls the driver's or the session's implementation. If there is no
implementation, the function returns a default. Other modules call only these functions, so a driver implements just
the protocols that it needs.
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
    """A driver whose engines all have the same scheduler."""

    scheduler: "Scheduler"


def scheduler_of(driver: Driver) -> "Scheduler":
    """Return the scheduler for suites that do not name a scheduler.

    This is the driver's own scheduler if all its engines have the same one. Otherwise it is ``DEFAULT_SCHEDULER``.
    """
    scheduler: Scheduler = getattr(driver, "scheduler", DEFAULT_SCHEDULER)
    return scheduler


class OfVllm(Protocol):
    """A driver that runs vLLM."""

    vllm_version: str | None


def vllm_version_of(driver: Driver) -> str | None:
    """Return the version of vLLM that a driver runs, such as ``0.27.1``; None for other engines or if not known."""
    version: str | None = getattr(driver, "vllm_version", None)
    return version


class KnowsWhatIsMissing(Protocol):
    """A driver that has some capabilities only if certain packages are installed."""

    def why_lacking(self, capability: str) -> str | None:
        """Return a sentence that names the missing packages that a capability needs, and says how to install them.

        Return None if no package is missing.
        """


def why_lacking(driver: Driver, capability: str) -> str:
    """Return a sentence that says why a case is skipped: it needs ``capability``, which the driver lacks."""
    own = getattr(driver, "why_lacking", None)
    missing: str | None = own(capability) if own is not None else None
    return missing or f"the case needs {capability}, which the driver {driver.name} does not offer"


class LabelsBackends(Protocol):
    """A driver that runs a backend in more than one way, such as on a card or on a simulated card."""

    def backend_label(self, backend: str) -> str:
        """Return the name of a backend for reports, followed by ``(simulated)`` if there is no card."""


def backend_label(driver: Driver, backend: str) -> str:
    """Return the name of a driver's backend for reports. By default this is the backend's own name."""
    return driver.backend_label(backend) if _labels_backends(driver) else backend


class Preloads(Protocol):
    """A driver that can import the modules of its engines in advance."""

    def preload(self) -> None:
        """Import the modules that the driver's engines need, without starting an engine.

        Processes that are forked from this process later need not import the modules again.
        """


def preload(driver: Driver) -> None:
    """Import the modules that the driver's engines need, if the driver implements Preloads. Else do nothing."""
    if _preloads(driver):
        driver.preload()


class Forkable(Preloads, Protocol):
    """A driver whose engines can be started in a fork of a process that has imported their modules.

    Engines that use a card are never started in forks.
    """

    def inheritable(self, setup: EngineSetup) -> bool:
        """Return whether an engine that is started in a process can be used in a fork of that process.

        This is not possible if the engine uses a card, or has worker processes or threads.
        """

    def compile_key(self, setup: EngineSetup) -> Hashable:
        """Return a key for the compiled code of an engine with this setup, None if the engine does not compile.

        Setups with the same key can use the same code: if an engine was compiled in a process, forks of this process
        use the compiled code for their own engines with the same key.
        """


def starts_in_forks(driver: Driver) -> bool:
    """Return whether engines of a driver that use no card can be started in forks."""
    return _forkable(driver)


def inheritable(driver: Driver, setup: EngineSetup) -> bool:
    """Return whether an engine with this setup that was started in a process can be used in a fork of that process."""
    return _forkable(driver) and driver.inheritable(setup)


def compile_key(driver: Driver, setup: EngineSetup) -> Hashable:
    """Return a key for the compiled code of an engine with this setup, equal for engines that can share the code.

    Return None if the engine does not compile, or if the driver's engines can't be started in forks.
    """
    return driver.compile_key(setup) if _forkable(driver) else None


class SharedServer(Protocol):
    """A server whose limits and options can be changed while it runs."""

    def client(self, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """Set the limits and options of a case, check that they took effect, and return a client of the server.

        Raises DirtyServerError (server_pool.py) if the server has limits or metrics that a new server would not have,
        or does not answer, and UnavailableError if the server can't have these limits.
        """

    def end(self) -> None:
        """End the process of the server. Can be called more than once."""


class Serves(Protocol):
    """A driver with the capability ``http``: its engines can be used through a server."""

    def unfit(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> str | None:
        """Return why the driver's server can't run a case with these limits and options. Return None if it can."""

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: "ServerOptions") -> "Client":
        """Start a server with these limits and options, and return a client.

        Raises UnavailableError if the server does not start.
        """

    def share(self, setup: EngineSetup) -> SharedServer | None:
        """Start a server whose limits and options can be changed between cases, and return it.

        Return None, and start nothing, if the driver has no such server. Raises UnavailableError if the server does not
        start.
        """


def serves(driver: object) -> TypeGuard[Serves]:
    """Return whether a driver implements Serves."""
    return hasattr(driver, "serve")


def _labels_backends(driver: object) -> TypeGuard[LabelsBackends]:
    return hasattr(driver, "backend_label")


def _preloads(driver: object) -> TypeGuard[Preloads]:
    return hasattr(driver, "preload")


def _forkable(driver: object) -> TypeGuard[Forkable]:
    return hasattr(driver, "inheritable")


# --- sessions ---------------------------------------------------------------------------------------------------


class Compiled(Protocol):
    """A session that reports what its engine compiles."""

    @property
    def compilation(self) -> Compilation | None:
        """Return what the engine has compiled so far, None if it does not compile."""


def compilation_of(session: Session) -> Compilation | None:
    """Return what the engine of a session has compiled so far, None if it does not compile or does not report it."""
    compilation: Compilation | None = getattr(session, "compilation", None)
    return compilation


class OfflineSession(Session, Protocol):
    """A session of a driver with the capability ``offline-api``."""

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        """Run requests through the engine's offline API. Raises RefusedError if the engine refuses one of them."""

    def client(self, options: "ServerOptions") -> "Client":
        """Return a client that uses the engine through its APIs in this process."""


def is_offline(session: Session) -> TypeGuard[OfflineSession]:
    """Return whether a session implements OfflineSession."""
    return hasattr(session, "generate")


def steps_of_generate(session: Session) -> Sequence[tuple[StepRecord, Observation]]:
    """Return (step, state after the step) for each step of the last ``generate`` call.

    Requests are named by their position in the list passed to ``generate``. Return () if the driver can't observe
    these steps.
    """
    steps = getattr(session, "steps_of_generate", None)
    seen: Sequence[tuple[StepRecord, Observation]] = () if steps is None else steps()
    return seen
