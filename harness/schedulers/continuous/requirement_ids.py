"""Determine which requirements of suites/requirements.yaml a run violates.

``spyre-cb search`` writes the ids of these requirements to the suite file that reproduces the failure.
"""

from harness.schedulers.continuous.invariants import RULES
from harness.schedulers.continuous.rules import rule_for
from harness.types import Verdict

BY_CELL = {
    ("prefill", "tkv"): ("CB-TKV-01", "CB-TKV-02", "CB-TKV-03", "CB-PREFILL-03"),
    ("prefill", "reserved"): ("CB-BLOCK-02",),
    ("prefill", "used"): ("CB-BLOCK-01", "CB-PAD-03"),
    ("prefill", "waiting"): ("CB-FIFO-02",),
    ("prefill", "running"): ("CB-RUN-01",),
    ("prefill", "outputs"): ("CB-OUT-01", "CB-FIFO-01"),
    ("prefill", "finished"): ("CB-END-01",),
    ("decode", "tkv"): ("CB-TKV-04", "CB-PAD-01"),
    ("decode", "reserved"): ("CB-FREE-01", "CB-BLOCK-02"),
    ("decode", "used"): ("CB-BLOCK-03", "CB-FREE-01"),
    ("decode", "waiting"): ("CB-FIFO-02",),
    ("decode", "running"): ("CB-RUN-02",),
    ("decode", "outputs"): ("CB-OUT-02",),
    ("decode", "finished"): ("CB-END-02",),
    ("idle", "outputs"): ("CB-IDLE-01",),
    ("start", "outputs"): ("CB-FIFO-02",),
}
"""Ids of requirements, by the arguments of ``rule_for``: the kind of a step, and a column of the step table."""
BY_INVARIANT = {
    "blocks": ("CB-ADMIT-05", "CB-BLOCK-02"),
    "owner": ("CB-BLOCK-04",),
    "written": ("CB-BLOCK-04", "CB-DECODE-02"),
    "held": ("CB-BLOCK-01", "CB-BLOCK-02", "CB-BLOCK-03"),
    "batch": ("CB-ADMIT-02",),
    "batch_tkv": ("CB-ADMIT-06", "CB-ADMIT-07"),
    "tkv": ("CB-TKV-02", "CB-TKV-04", "CB-PAD-01"),
    "outputs": ("CB-OUT-01", "CB-OUT-02"),
    "running": ("CB-RUN-01",),
    "queue": ("CB-FIFO-01", "CB-FIFO-02"),
    "end": ("CB-END-02",),
    "abort": ("CB-ABORT-01", "CB-ABORT-02"),
    "idle": ("CB-IDLE-01",),
}
"""Ids of requirements, by the key of an invariant in ``RULES`` of invariants.py."""
BY_REASON = {
    "waits for batch: ": "CB-ADMIT-02",
    "context: sequence": "CB-ADMIT-04",
    " tokens requested, ": "CB-ADMIT-03",
    "blocks: ": "CB-ADMIT-05",
    "batch x tkv: ": "CB-ADMIT-06",
}
"""Id of a requirement, by a part of the phrase about why the head of the queue waits (``model.why_not``)."""


def requirements_of(verdict: Verdict, *, unfinished: bool) -> tuple[str, ...]:
    """Return the ids of the requirements that a run with this verdict violates.

    Return () if the verdict names no rule of this scheduler. ``unfinished`` is whether the engine failed, or did not
    finish all requests.
    """
    for (kind, column), ids in BY_CELL.items():
        if verdict.rule == rule_for(kind, column):
            return ids
    for name, ids in BY_INVARIANT.items():
        if verdict.rule == RULES[name]:
            return ids
    explanation = " ".join(verdict.details[-1:])
    reasons = tuple(requirement for words, requirement in BY_REASON.items() if words in explanation)
    if "Admission" in verdict.rule:
        return reasons or ("CB-PREFILL-02", "CB-FIFO-01")
    return reasons if unfinished else ()
