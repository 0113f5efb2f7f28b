"""The rule for each column of a step table, for error messages, abridged from docs/scheduling-rules-chunked.md."""

_ALWAYS = {
    "waiting": '"Candidates": first in, first out; the head leaves the queue at its first chunk',
    "paused": '"Pausing": the longest paused resumes first; a request that exceeds the batch x tkv limit is paused',
    "hits": '"Prefix caching": usable = min(floor((lp + h)/chunk), n − 1)·chunk − lp tokens, in blocks',
    "finished": '"Steps": a request ends with its last token; its blocks are free in that step',
}
_PREFILL = _ALWAYS | {
    "tkv": '"Chunks": a prefill step reports the length of the prompt, at every chunk',
    "running": '"Which kind of step": the request whose chunk runs is at the front of running',
    "outputs": '"Chunks": only the last chunk of a prompt yields a token',
    "reserved": '"Reservation": ceil((L + max_tokens)/64) less the blocks it holds; it shrinks with each new one',
    "used": '"Prefix caching" and "Chunks": blocks are taken chunk by chunk; shared ones count once',
}
_DECODE = _ALWAYS | {
    "tkv": '"Decode": the largest of (m − b)·64 + computed + 1, where a request has b blocks, and m is the largest b',
    "running": '"Pausing" and "Which kind of step": a resumed request goes to the end, before only the one in prefill',
    "outputs": '"Pausing": a request decodes if batch size (including it) × its tkv is within the limit',
    "reserved": '"Reservation": it shrinks with each new block and goes when the request ends',
    "used": '"Decode": a request whose next token starts a block takes one; a finished one gives its own back',
}
_IDLE = _ALWAYS | dict.fromkeys(
    ("tkv", "running", "outputs", "reserved", "used"), '"Steps": with nothing to run the step is empty: tkv 0'
)
_START = dict.fromkeys(_DECODE, '"Steps": step 0 is the state before any step ran')
_BY_KIND = {"prefill": _PREFILL, "decode": _DECODE, "idle": _IDLE, "start": _START}
_WHICH = (
    '"May prefill" and "Which kind of step": a chunk runs unless a request is paused, decoding requests are due for a '
    "step, or the batch is full; a first chunk needs free, unreserved blocks for its worst case"
)
DOC = "docs/scheduling-rules-chunked.md"


def rule_for(kind: str, column: str) -> str:
    """Return the rule that determines ``column`` in a step of the kind ``kind``."""
    return f"{DOC} {_BY_KIND[kind][column]}"


def rule_for_kinds(expected: str, seen: str) -> str:
    """Return the rule that requires a step of the kind ``expected``, if the observed kind is ``seen``."""
    return f"{DOC} {_WHICH}" if "prefill" in (expected, seen) else rule_for(expected, "outputs")
