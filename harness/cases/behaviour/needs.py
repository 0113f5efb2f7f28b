"""Determine which driver capabilities a behaviour case needs. The case is skipped if the driver lacks one."""

from collections.abc import Iterator

from harness.drivers.base import ASYNC_API, GOLDEN_TOKENS, OFFLINE_API, PROMPT_LOGPROBS, STRUCTURED_OUTPUTS
from harness.drivers.client import ABORT, BLOCK_METRICS, HTTP, RESTART
from harness.suites.schema import Action, BehaviourCase

OVER_HTTP_ONLY = "the case is about an HTTP server, and this configuration calls the engine in-process"
ECHO_OVER_HTTP_ONLY = "the case uses echo of the HTTP API, and this configuration calls the engine in-process"
IN_PROCESS_ONLY = "the case aborts a request, and an HTTP client can only disconnect"
STEPS_IN_PROCESS = "the case has max_steps, and the steps of a request can't be observed over HTTP"
MISFITS = frozenset({OVER_HTTP_ONLY, ECHO_OVER_HTTP_ONLY, IN_PROCESS_ONLY, STEPS_IN_PROCESS})
"""Reasons why a case can't run at one of the two entry points (in-process and HTTP), whichever driver is used."""
STRUCTURE_FIELDS = frozenset({"structured_outputs", "response_format"})
"""The fields of a request body that give the format of the answer."""


def needs_of(case: BehaviourCase, entry_point: str) -> Iterator[str]:
    """Yield the names of the driver capabilities that the case needs. ``entry_point`` is ``in-process`` or ``http``.

    If the case can't run at the entry point with any driver, also yield the reason, a sentence from MISFITS. The caller
    looks up the sentence like the name of a capability. No driver has such a capability, so the case is skipped.
    """
    yield HTTP if entry_point == "http" else OFFLINE_API
    if entry_point != "http" and any(_of_many_clients(action) for action in case.actions):
        yield ASYNC_API
    for action in case.actions:
        structures = [call.structured_outputs for call in action.calls]
        if action.chat is not None:
            structures.append(action.chat.structured_outputs)
        unchecked = {name for call in action.calls for name in call.unchecked}
        if any(structure is not None for structure in structures) or "structured_outputs" in unchecked:
            yield STRUCTURED_OUTPUTS
        of_prompts = (call.prompt_logprobs is not None or getattr(call, "echo", False) for call in action.calls)
        if any(of_prompts) or "prompt_logprobs" in unchecked:
            yield PROMPT_LOGPROBS
        if any(call.golden for call in action.calls):
            yield GOLDEN_TOKENS
        if any(getattr(call, "echo", False) for call in action.calls) and entry_point != "http":
            yield ECHO_OVER_HTTP_ONLY
        raw = action.http is not None or (action.check is not None and ":" not in action.check.name)
        content = None if action.http is None else action.http.content
        if isinstance(content, dict) and STRUCTURE_FIELDS & content.keys():
            yield STRUCTURED_OUTPUTS
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
    """Return whether a case over HTTP may stop the server, so that it needs a server that no other case uses.

    A case may stop the server if it restarts the server, sets ``drain_seconds`` or names a check from another package.
    """
    foreign = (action.check is not None and ":" in action.check.name for action in case.actions)
    restarts = (action.restart is not None for action in case.actions)
    return case.server.drain_seconds is not None or any(restarts) or any(foreign)


def _of_many_clients(action: Action) -> bool:
    """Return whether an action needs a client that can have several requests at the same time.

    The actions ``generate``, ``wait``, ``metrics``, ``restart``, ``http`` and ``check`` do not need it.
    """
    return any((action.complete, action.stream, action.chat, action.flood, action.abort, action.disconnect))
