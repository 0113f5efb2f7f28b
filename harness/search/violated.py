"""Requirements that a verdict reports as violated, so that a workload found by search can be committed as a case."""

from harness.schedulers.spec import SchedulerSpec
from harness.types import Verdict

TOKENS = ("CB-OUTPUT-03",)
FAILED = ("CB-PREFILL-02", "CB-END-02")
"""Requirements of a run that was stopped early: the engine neither prefills nor ends what it should."""


def violated(scheduler: SchedulerSpec, verdict: Verdict) -> tuple[str, ...]:
    """Return ids of suites/requirements.yaml, at least one."""
    broken_off = "failed" in verdict.headline or "not done" in verdict.headline
    return scheduler.requirements_of(verdict, broken_off=broken_off) or (FAILED if broken_off else TOKENS)
