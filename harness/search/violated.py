"""Which requirements a verdict says are violated, so that a workload that was found can be committed as a case."""

from harness.schedulers.spec import SchedulerSpec
from harness.types import Verdict

TOKENS = ("CB-OUTPUT-03",)
FAILED = ("CB-PREFILL-02", "CB-END-02")
"""An engine that breaks off neither prefills nor ends what it should."""


def violated(scheduler: SchedulerSpec, verdict: Verdict) -> tuple[str, ...]:
    """Ids of suites/requirements.yaml, at least one."""
    broken_off = "failed" in verdict.headline or "not done" in verdict.headline
    return scheduler.requirements_of(verdict, broken_off=broken_off) or (FAILED if broken_off else TOKENS)
