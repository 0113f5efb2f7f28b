"""The driver capabilities that a behaviour case needs."""

from collections.abc import Iterator

from harness.drivers.base import ASYNC_API, OFFLINE_API, STRUCTURED_OUTPUTS
from harness.drivers.client import ABORT, BLOCK_METRICS, HTTP, RESTART
from harness.suites.schema import Action, BehaviourCase

OVER_HTTP_ONLY = "http: the case sends raw requests, and this is its in-process configuration"
IN_PROCESS_ONLY = "abort: over HTTP a client can only disconnect"
STEPS_IN_PROCESS = "max_steps: over HTTP the steps of a request can't be observed"


def needs_of(case: BehaviourCase, entry_point: str) -> Iterator[str]:
    """Yield the needed capabilities; one that no driver has if the case does not fit the entry point."""
    yield HTTP if entry_point == "http" else OFFLINE_API
    if entry_point != "http" and any(_of_many_clients(action) for action in case.actions):
        yield ASYNC_API
    for action in case.actions:
        structures = [call.structured_outputs for call in action.calls]
        if action.chat is not None:
            structures.append(action.chat.structured_outputs)
        if any(structure is not None for structure in structures):
            yield STRUCTURED_OUTPUTS
        raw = action.http is not None or (action.check is not None and ":" not in action.check.name)
        if raw:
            yield HTTP if entry_point == "http" else OVER_HTTP_ONLY
        if action.metrics is not None:
            yield HTTP if entry_point == "http" else OVER_HTTP_ONLY
        if action.wait is not None and entry_point == "http" and action.wait.needs_metrics:
            yield BLOCK_METRICS
        if action.restart is not None:
            yield RESTART if entry_point == "http" else OVER_HTTP_ONLY
        if action.expect is not None and action.expect.max_steps is not None and entry_point == "http":
            yield STEPS_IN_PROCESS
        if action.abort is not None:
            yield ABORT if entry_point != "http" else IN_PROCESS_ONLY


def wants_a_server_alone(case: BehaviourCase) -> bool:
    """Return whether a case over HTTP may end its server, so that it needs one of its own.

    That is the case if it restarts the server, sets the drain time, or has a check from another package.
    """
    foreign = (action.check is not None and ":" in action.check.name for action in case.actions)
    restarts = (action.restart is not None for action in case.actions)
    return case.server.drain_seconds is not None or any(restarts) or any(foreign)


def _of_many_clients(action: Action) -> bool:
    """Return whether an action needs a client that serves concurrently. ``generate`` and waiting do not."""
    return any((action.complete, action.stream, action.chat, action.flood, action.abort, action.disconnect))
