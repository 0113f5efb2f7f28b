"""The rule of the continuous scheduler for each column of a step table, as text for messages about failures.

The texts are abridged from docs/scheduling-rules.md.
"""

_PREFILL = {
    "tkv": (
        '"Prefill": in a new batch, tkv is the prompt length rounded up to a multiple of 64; afterwards a prompt of '
        "L > tkv tokens makes tkv grow by ceil((L − tkv)/64)·64, and a shorter prompt does not change tkv"
    ),
    "reserved": '"Prefill": reserved = ceil((tkv + max_tokens − 1)/64) − blocks that are all padding',
    "used": '"Prefill": used = ceil(tkv/64) − blocks that are all padding',
    "waiting": '"Admission": strict first in, first out; the prefilled request was the head of the queue, and leaves '
    "the queue",
    "running": '"Steps": running is newest first; a prefilled sequence goes to the front',
    "outputs": '"Steps": in a prefill step only the prefilled sequence gets a token',
    "finished": '"Steps": a sequence finishes with its last token, which is that of its prefill if max_tokens is 1',
}
_DECODE = {
    "tkv": '"Decode": tkv grows by 1, after whole blocks of shared padding were removed ("One step", 3)',
    "reserved": '"Steps": a reservation is fixed at the prefill, and is freed in the step after the last token',
    "used": '"Decode": if tkv is a multiple of 64, every running sequence gets one block; blocks of finished sequences '
    "are freed in the next step",
    "waiting": '"One step", 1: strict first in, first out; no request leaves the queue in a decode',
    "running": '"Steps": running is newest first; a sequence that finishes leaves running in that step',
    "outputs": '"Steps": every running sequence gets one token in a decode, in running order',
    "finished": '"One step", 4: a sequence finishes at max_tokens, with EOS (unless ignored) or a stop condition, '
    "or when it fills the context",
}
_IDLE = dict.fromkeys(
    (*_DECODE, "kind"),
    '"Steps": after the last sequence has finished, one more step runs, which frees the blocks and sets tkv to 0',
)
_START = dict.fromkeys(
    (*_DECODE, "kind"), '"Steps": step 0 is the state before any step ran, with the requests that join at 0 queued'
)
_BY_KIND = {"prefill": _PREFILL, "decode": _DECODE, "idle": _IDLE, "start": _START}


_ADMISSION = (
    '"One step", 1 and "Admission": strict first in, first out; the head of the queue joins exactly when batch, '
    "context, blocks and batch x tkv limit allow it, and its prefill goes before any decode"
)
DOC = "docs/scheduling-rules.md"


def rule_for(kind: str, column: str) -> str:
    """Return the rule that determines ``column`` of the step table in a step of the kind ``kind``."""
    return f"{DOC} {_BY_KIND[kind][column]}"


def rule_for_kinds(expected: str, seen: str) -> str:
    """Return the rule that is broken if a step is of the kind ``seen``, but must be of the kind ``expected``."""
    if "prefill" in (expected, seen):
        return f"{DOC} {_ADMISSION}"
    return rule_for(expected, "outputs")
