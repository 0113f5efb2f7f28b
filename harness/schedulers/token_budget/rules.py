"""Which rule to read when a cell of a token-budget table is wrong: those of the page that ``DOC`` names, shortened."""

DOC = "docs/scheduling-rules-token-budget.md"
BY_COLUMN = {
    "scheduled": '"Budget": running requests in the order they joined, then waiting ones from the head; each gets '
    "min(length − computed, threshold, budget left) tokens",
    "waiting": '"Admission": strictly in order, preempted requests in front; the head starts exactly when budget, '
    "places and free blocks for its whole length allow it",
    "running": '"Admission" and "Preemption": a request that starts goes to the end; the last is preempted',
    "outputs": '"Outputs": every request that caught up with its length gets a token, in the order of scheduling',
    "finished": '"Outputs": a request ends by a stop, at max_model_len, or with its token number max_tokens',
    "preempted": '"Preemption": where blocks lack for a running request, the last of running loses its own, repeatedly',
    "used": '"Blocks": blocks are taken for the tokens of this step, and free in the step in which a request ends',
    "hits": '"Prefix cache": the longest run of cached blocks over the first length − 1 tokens',
}
_IDLE = '"Steps": with nothing to run the step is empty; one follows the end of the last request'
_START = '"Steps": step 0 is the state before any step ran'
_WHICH = BY_COLUMN["scheduled"]


def rule_for(kind: str, column: str) -> str:
    """The rule behind a column in a step of that kind (the kind the step should have been)."""
    return f"{DOC} {_IDLE if kind == 'idle' else _START if kind == 'start' else BY_COLUMN[column]}"


def rule_for_kinds(expected: str, seen: str) -> str:  # noqa: ARG001
    """The rule behind a step that was of another kind than it should have been."""
    return f"{DOC} {_IDLE if expected == 'idle' else _WHICH}"
