"""Determine which requirements of suites/requirements.yaml a run violates.

``spyre-cb search`` writes the ids of these requirements to the suite file that reproduces the failure.
"""

from harness.schedulers.chunked.rules import DOC
from harness.types import Verdict

BY_HEADING = {
    "Chunks": ("CP-CHUNK-01",),
    "Waiting requests": ("CP-QUEUE-01", "CP-BLOCK-01"),
    "Which kind of step": ("CP-KIND-01",),
    "May prefill": ("CP-KIND-03", "CP-INTER-01"),
    "Pausing": ("CP-PAUSE-01",),
    "Decode": ("CP-DECODE-01",),
    "Reservation": ("CP-RES-01",),
    "Prefix caching": ("CP-HIT-01",),
    "Steps": ("CP-END-01", "CP-IDLE-01"),
    "Aborts": ("CP-ABORT-01",),
}
"""Ids of requirements, by a heading of docs/scheduling-rules-chunked.md. The rule of a verdict names a heading."""


def requirements_of(verdict: Verdict, *, unfinished: bool) -> tuple[str, ...]:  # noqa: ARG001
    """Return the ids of the requirements that a run with this verdict violates.

    Return () if the verdict names no rule of this scheduler. ``unfinished`` is whether the engine failed, or did not
    finish all requests.
    """
    return BY_HEADING[verdict.rule.split('"')[1]] if verdict.rule.startswith(DOC) else ()
