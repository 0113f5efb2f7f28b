"""What a behaviour case needs of a driver, in words of its capabilities."""

from collections.abc import Iterator

from harness.drivers.base import ASYNC_API, OFFLINE_API
from harness.drivers.client import ABORT, BLOCK_METRICS, HTTP, RESTART
from harness.suites.schema import Action, BehaviourCase

OVER_HTTP_ONLY = "http: the case sends what only a server can be sent, and this is its in-process configuration"
IN_PROCESS_ONLY = "abort: over HTTP a client can only go away"


def needs_of(case: BehaviourCase, entry_point: str) -> Iterator[str]:
    """Capabilities; a need that no driver has where the case does not fit the client."""
    yield HTTP if entry_point == "http" else OFFLINE_API
    if entry_point != "http" and any(_of_many_clients(action) for action in case.actions):
        yield ASYNC_API
    for action in case.actions:
        raw = action.http is not None or (action.check is not None and ":" not in action.check.name)
        if raw:
            yield HTTP if entry_point == "http" else OVER_HTTP_ONLY
        if action.metrics is not None:
            yield HTTP if entry_point == "http" else OVER_HTTP_ONLY
        if action.wait is not None and entry_point == "http" and action.wait.needs_metrics:
            yield BLOCK_METRICS
        if action.restart is not None:
            yield RESTART if entry_point == "http" else OVER_HTTP_ONLY
        if action.abort is not None:
            yield ABORT if entry_point != "http" else IN_PROCESS_ONLY


def wants_a_server_alone(case: BehaviourCase) -> bool:
    """Whether what a case does over HTTP ends its server, or may: it restarts it, it says how long it is to drain, or
    it has a check of which nothing is known here.
    """
    foreign = (action.check is not None and ":" in action.check.name for action in case.actions)
    restarts = (action.restart is not None for action in case.actions)
    return case.server.drain_seconds is not None or any(restarts) or any(foreign)


def _of_many_clients(action: Action) -> bool:
    """Whether it needs a client that serves while the case goes on; ``generate`` and waiting do not."""
    return any((action.complete, action.stream, action.chat, action.flood, action.abort, action.disconnect))
