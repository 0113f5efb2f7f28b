"""The rule of the chunked scheduler for each column of a step table, as text for messages about failures.

The texts are abridged from docs/scheduling-rules-chunked.md.
"""

_ALWAYS = {
    "waiting": '"Waiting requests": first in, first out; a request leaves the queue when its first chunk runs',
    "paused": '"Pausing": a request is paused if the batch x tkv limit would be exceeded with it; of the paused '
    "requests, the one that has been paused longest is tried first",
    "hits": '"Prefix caching": blocks of the hit that are not computed again; chunks that are entirely hit are '
    "skipped, except for the last chunk",
    "finished": '"Steps": a request finishes with its last token, and its blocks are freed in the same step',
}
_PREFILL = _ALWAYS | {
    "tkv": '"Chunks": tkv of a prefill step is the length of the prompt, whichever chunk runs',
    "running": '"Which kind of step": the request whose chunk runs is at the front of running',
    "outputs": '"Chunks": only the last chunk of a prompt yields a token',
    "reserved": '"Reservation": each request reserves ceil((prompt length + max_tokens)/64) blocks, minus those it '
    "holds",
    "used": '"Prefix caching" and "Chunks": each chunk allocates the blocks for its tokens; a shared block counts once',
}
_DECODE = _ALWAYS | {
    "tkv": '"Decode": the largest tkv of the decoding requests, which is the number of their tokens in the KV cache '
    "after the step, plus the whole blocks of padding with which all these requests end in the same block",
    "running": '"Pausing" and "Which kind of step": a resumed request goes to the end of running, but before a request '
    "that is in prefill",
    "outputs": '"Pausing": a request decodes if batch size × tkv stays within the batch x tkv limit with it',
    "reserved": '"Reservation": it decreases by one with each allocated block, and is freed when the request ends',
    "used": '"Decode": a request gets a block if its next token starts one; the blocks of a finished request are freed',
}
_IDLE = _ALWAYS | dict.fromkeys(
    ("tkv", "running", "outputs", "reserved", "used"), '"Steps": if no request can run, the step is empty and tkv is 0'
)
_START = dict.fromkeys(_DECODE, '"Steps": step 0 is the state before any step ran')
_BY_KIND = {"prefill": _PREFILL, "decode": _DECODE, "idle": _IDLE, "start": _START}
_WHICH = (
    '"May prefill" and "Which kind of step": a chunk runs, unless a request is paused (left out of decodes by the '
    "batch x tkv limit), or interleaving is on, the previous step was a chunk, and requests can decode; the first "
    "chunk of a prompt also needs fewer than max_num_seqs running requests, and enough free, unreserved blocks for "
    "the prompt and max_tokens"
)
DOC = "docs/scheduling-rules-chunked.md"


def rule_for(kind: str, column: str) -> str:
    """Return the rule that determines ``column`` of the step table in a step of the kind ``kind``."""
    return f"{DOC} {_BY_KIND[kind][column]}"


def rule_for_kinds(expected: str, seen: str) -> str:
    """Return the rule that is broken if a step is of the kind ``seen``, but must be of the kind ``expected``."""
    return f"{DOC} {_WHICH}" if "prefill" in (expected, seen) else rule_for(expected, "outputs")
