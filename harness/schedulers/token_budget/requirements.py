"""Which requirements a verdict says are violated, so that a workload that was found can be committed as a case."""

from harness.schedulers.token_budget.rules import DOC
from harness.types import Verdict

BY_HEADING = {
    "Steps": ("TB-IDLE-01",),
    "Budget": ("TB-BUDGET-01", "TB-ORDER-01"),
    "Preemption": ("TB-PREEMPT-01",),
    "Admission": ("TB-FIFO-01", "TB-BLOCK-01"),
    "Outputs": ("TB-OUT-01", "TB-END-01"),
    "Blocks": ("TB-GROW-01",),
    "Prefix cache": ("TB-HIT-01",),
    "Aborts": ("TB-ABORT-01",),
}
"""Headings of docs/scheduling-rules-token-budget.md, which a rule names first."""


def requirements_of(verdict: Verdict, *, broken_off: bool) -> tuple[str, ...]:
    """Ids of suites/requirements.yaml; none where the verdict names no rule of this scheduler."""
    if broken_off:
        return ("TB-BUDGET-02", "TB-END-01")
    return BY_HEADING[verdict.rule.split('"')[1]] if verdict.rule.startswith(DOC) else ()
