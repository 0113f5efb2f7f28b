"""The rule for each column of a step table, for error messages, abridged from the page that ``DOC`` names."""

DOC = "docs/scheduling-rules-token-budget.md"
BY_COLUMN = {
    "scheduled": '"TB-RUNNING" and "TB-ADMIT": running requests in the order they joined, then waiting ones from the '
    "head; each gets min(length − computed, threshold, budget left) tokens",
    "waiting": '"TB-ADMIT": strictly in order, preempted requests in front; the head starts exactly when budget, '
    "places and free blocks for its whole length allow it",
    "running": '"TB-ADMIT" and "TB-PREEMPT": a request that starts goes to the end; the last is preempted',
    "outputs": '"TB-TOKEN": every request that caught up with its length gets a token, in the order of scheduling',
    "finished": '"TB-END": a request ends by a stop, at max_model_len, or with its token number max_tokens',
    "preempted": '"TB-PREEMPT": if a running request lacks blocks, the last running one loses its own, repeatedly',
    "used": '"TB-RUNNING" and "TB-END": blocks are taken for the tokens of this step, and free when a request ends',
    "hits": '"TB-HIT": the longest run of cached blocks over the first length − 1 tokens',
}
CAUSES = ("preempted", "hits", "scheduled", "running", "waiting", "outputs", "finished", "used")
"""The columns from cause to effect. If several columns of a step are wrong, the rule of the first one is reported."""
_IDLE = '"TB-END": with nothing to run the step is empty; one follows the end of the last request'
_START = '"One step": step 0 is the state before any step ran'
_WHICH = BY_COLUMN["scheduled"]


def rule_for(kind: str, column: str) -> str:
    """Return the rule that determines ``column`` in a step of the kind ``kind``."""
    return f"{DOC} {_IDLE if kind == 'idle' else _START if kind == 'start' else BY_COLUMN[column]}"


def rule_for_kinds(expected: str, seen: str) -> str:  # noqa: ARG001
    """Return the rule that requires a step of the kind ``expected``, if the observed kind is ``seen``."""
    return f"{DOC} {_IDLE if expected == 'idle' else _WHICH}"
