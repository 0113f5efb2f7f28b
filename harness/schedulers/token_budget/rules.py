"""The rule of the token-budget scheduler for each column of a step table, as text for messages about failures.

The texts are abridged from docs/scheduling-rules-token-budget.md.
"""

DOC = "docs/scheduling-rules-token-budget.md"
BY_COLUMN = {
    "scheduled": '"TB-RUNNING" and "TB-ADMIT": running requests are scheduled in the order in which they joined, then '
    "waiting requests from the head of the queue; each gets all its tokens that are not computed yet, or as many as "
    "the threshold and the rest of the budget allow",
    "waiting": '"TB-ADMIT": first in, first out, with preempted requests in front; the head starts exactly when '
    "budget and max_num_seqs allow it, and the free blocks suffice for all its tokens",
    "running": '"TB-ADMIT" and "TB-PREEMPT": a request that starts goes to the end of running; if blocks are missing, '
    "the last request of running is preempted",
    "outputs": '"TB-TOKEN": every request whose tokens are all computed gets a token, in the order of scheduling',
    "finished": '"TB-END": a request ends with a stop condition, at max_model_len, or after max_tokens tokens',
    "preempted": '"TB-PREEMPT": if a running request lacks blocks, the last running request is preempted, and then the '
    "next one, until there are enough",
    "used": '"TB-RUNNING" and "TB-END": blocks are allocated for the tokens of this step, and freed when a request '
    "ends",
    "hits": '"TB-HIT": the longest beginning of the request, without its last token, that is in the prefix cache',
}
CAUSES = ("preempted", "hits", "scheduled", "running", "waiting", "outputs", "finished", "used")
"""The columns of the step table from cause to effect. If several are wrong, the rule of the first one is reported."""
_IDLE = '"TB-END": if no request can run, the step is empty; one empty step follows the end of the last request'
_START = '"One step": step 0 is the state before any step ran'
_WHICH = BY_COLUMN["scheduled"]


def rule_for(kind: str, column: str) -> str:
    """Return the rule that determines ``column`` of the step table in a step of the kind ``kind``."""
    return f"{DOC} {_IDLE if kind == 'idle' else _START if kind == 'start' else BY_COLUMN[column]}"


def rule_for_kinds(expected: str, seen: str) -> str:  # noqa: ARG001
    """Return the rule that is broken if a step is of the kind ``seen``, but must be of the kind ``expected``."""
    return f"{DOC} {_IDLE if expected == 'idle' else _WHICH}"
