"""Determine which requirements of suites/requirements.yaml a run violates.

``spyre-cb search`` writes the ids of these requirements to the suite file that reproduces the failure.
"""

from harness.schedulers.spec import SchedulerSpec
from harness.types import Verdict

TOKENS = ("CB-OUTPUT-03",)
"""The requirements that an engine violates if a request gets other tokens than without other requests in the batch."""
FAILED = ("CB-PREFILL-02", "CB-END-02")
"""The requirements that an engine violates if it fails or does not finish all requests."""


def violated(scheduler: SchedulerSpec, verdict: Verdict) -> tuple[str, ...]:
    """Return the ids of the requirements that a run with this verdict violates, at least one."""
    unfinished = "failed" in verdict.headline or "not done" in verdict.headline
    return scheduler.requirements_of(verdict, unfinished=unfinished) or (FAILED if unfinished else TOKENS)
