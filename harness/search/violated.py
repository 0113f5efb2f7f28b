"""Which requirements a verdict says are violated, so that what was found can be committed as a case."""

from harness.checks.invariants import RULES
from harness.checks.verdict import Verdict
from harness.rules import rule_for
from harness.rules_chunked import DOC

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
BY_INVARIANT = {
    "blocks": ("CB-ADMIT-05", "CB-BLOCK-02"),
    "owner": ("CB-BLOCK-04",),
    "held": ("CB-BLOCK-01", "CB-BLOCK-02", "CB-BLOCK-03"),
    "batch": ("CB-ADMIT-02",),
    "volume": ("CB-ADMIT-06", "CB-ADMIT-07"),
    "tkv": ("CB-TKV-02", "CB-TKV-04", "CB-PAD-01"),
    "outputs": ("CB-OUT-01", "CB-OUT-02"),
    "running": ("CB-RUN-01",),
    "queue": ("CB-FIFO-01", "CB-FIFO-02"),
    "end": ("CB-END-02",),
    "abort": ("CB-ABORT-01", "CB-ABORT-02"),
    "idle": ("CB-IDLE-01",),
}
BY_REASON = {
    "waits for batch: ": "CB-ADMIT-02",
    "context: sequence": "CB-ADMIT-04",
    " tokens asked, ": "CB-ADMIT-03",
    "blocks: ": "CB-ADMIT-05",
    "volume: ": "CB-ADMIT-06",
}
"""Words of the second opinion (``why_not``) for what the head of the queue waits for."""

BY_CHUNKED_HEADING = {
    "Chunks": ("CP-CHUNK-01",),
    "Candidates": ("CP-QUEUE-01", "CP-BLOCK-01"),
    "Which kind of step": ("CP-KIND-01",),
    "May prefill": ("CP-KIND-03", "CP-INTER-01"),
    "Pausing": ("CP-PAUSE-01",),
    "Decode": ("CP-DECODE-01",),
    "Reservation": ("CP-RES-01",),
    "Prefix caching": ("CP-HIT-01",),
    "Steps": ("CP-END-01", "CP-IDLE-01"),
    "Aborts": ("CP-ABORT-01",),
}
"""Headings of docs/scheduling-rules-chunked.md, which a rule names first."""

TOKENS = ("CB-OUTPUT-03",)
FAILED = ("CB-PREFILL-02", "CB-END-02")
"""An engine that breaks off neither prefills nor ends what it should."""


def violated(verdict: Verdict) -> tuple[str, ...]:
    """Ids of suites/requirements.yaml, at least one."""
    if verdict.rule.startswith(DOC):
        return BY_CHUNKED_HEADING[verdict.rule.split('"')[1]]
    for (kind, column), ids in BY_CELL.items():
        if verdict.rule == rule_for(kind, column):
            return ids
    for name, ids in BY_INVARIANT.items():
        if verdict.rule == RULES[name]:
            return ids
    said = " ".join(verdict.details[-1:])
    reasons = tuple(requirement for words, requirement in BY_REASON.items() if words in said)
    if "Admission" in verdict.rule:
        return reasons or ("CB-PREFILL-02", "CB-FIFO-01")
    broken_off = "failed" in verdict.headline or "not done" in verdict.headline
    return reasons or FAILED if broken_off else TOKENS
