"""Determine the requirements that a failing workload violates, to name them in the suite that the search writes."""

from harness.schedulers.spec import SchedulerSpec
from harness.types import Verdict

TOKENS = ("CB-OUTPUT-03",)
FAILED = ("CB-PREFILL-02", "CB-END-02")
"""The requirements that an engine violates if it fails or does not finish."""


def violated(scheduler: SchedulerSpec, verdict: Verdict) -> tuple[str, ...]:
    """Return the ids of the violated requirements, from suites/requirements.yaml. There is at least one."""
    broken_off = "failed" in verdict.headline or "not done" in verdict.headline
    return scheduler.requirements_of(verdict, broken_off=broken_off) or (FAILED if broken_off else TOKENS)
