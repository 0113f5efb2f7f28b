"""Determine which requirements of suites/requirements.yaml a run violates.

``spyre-cb search`` writes the ids of these requirements to the suite file that reproduces the failure.
"""

from harness.schedulers.token_budget.rules import DOC
from harness.types import Verdict

BY_HEADING = {
    "One step": ("TB-STEP-01",),
    "TB-BUDGET": ("TB-BUDGET-01",),
    "TB-THRESHOLD": ("TB-THRESHOLD-01",),
    "TB-RUNNING": ("TB-RUNNING-01", "TB-ADMIT-01"),
    "TB-PREEMPT": ("TB-PREEMPT-01",),
    "TB-ADMIT": ("TB-ADMIT-01", "TB-WHOLE-01"),
    "TB-HIT": ("TB-HIT-01",),
    "TB-REGISTER": ("TB-REGISTER-01",),
    "TB-TOKEN": ("TB-TOKEN-01",),
    "TB-END": ("TB-END-01", "TB-END-04"),
    "TB-FREE": ("TB-FREE-01",),
    "TB-ABORT": ("TB-ABORT-01",),
}
"""Ids of requirements, by a heading of docs/scheduling-rules-token-budget.md. The rule of a verdict names a heading."""


def requirements_of(verdict: Verdict, *, unfinished: bool) -> tuple[str, ...]:
    """Return the ids of the requirements that a run with this verdict violates.

    Return () if the verdict names no rule of this scheduler. ``unfinished`` is whether the engine failed, or did not
    finish all requests.
    """
    if unfinished:
        return ("TB-RUNNING-02", "TB-END-01")
    return BY_HEADING[verdict.rule.split('"')[1]] if verdict.rule.startswith(DOC) else ()
