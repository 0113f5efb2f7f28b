"""Which rule to read when a cell of a chunked step table is wrong: docs/scheduling-rules-chunked.md's, shortened."""

_ALWAYS = {
    "waiting": '"Candidates": first in, first out; the head leaves the queue at its first chunk',
    "paused": '"Pausing": taken one by one, who was paused longest first; who exceeds the batch x tkv limit is paused',
    "hits": '"Prefix caching": usable = min(floor((lp + h)/chunk), n − 1)·chunk − lp tokens, in blocks',
    "finished": '"Steps": a request ends with its last token; its blocks are free in that step',
}
_PREFILL = _ALWAYS | {
    "tkv": '"Chunks": a prefill step reports the length of the prompt, at every chunk',
    "running": '"Which kind of step": the one whose chunk runs is at the front of running',
    "outputs": '"Chunks": only the last chunk of a prompt yields a token',
    "reserved": '"Reservation": ceil((L + max_tokens)/64) less the blocks it holds; it shrinks with each new one',
    "used": '"Prefix caching" and "Chunks": blocks are taken chunk by chunk; shared ones count once',
}
_DECODE = _ALWAYS | {
    "tkv": '"Decode": the largest of (m − b)·64 + computed + 1, with b blocks each and m the most of all',
    "running": '"Pausing" and "Which kind of step": one that is resumed goes to the end, behind it the one in prefill',
    "outputs": '"Pausing": a request decodes where the size of the batch with it × its tkv is within the limit',
    "reserved": '"Reservation": it shrinks with each new block and goes when the request ends',
    "used": '"Decode": a request whose next token starts a block takes one; a finished one gives its own back',
}
_IDLE = _ALWAYS | dict.fromkeys(
    ("tkv", "running", "outputs", "reserved", "used"), '"Steps": with nothing to run the step is empty: tkv 0'
)
_START = dict.fromkeys(_DECODE, '"Steps": step 0 is the state before any step ran')
_BY_KIND = {"prefill": _PREFILL, "decode": _DECODE, "idle": _IDLE, "start": _START}
_WHICH = (
    '"May prefill" and "Which kind of step": a chunk runs unless somebody is paused, those that decode are due for a '
    "turn, or the batch is full; a first chunk needs its worst case in free blocks that are promised to nobody"
)
DOC = "docs/scheduling-rules-chunked.md"


def rule_for(kind: str, column: str) -> str:
    """The rule behind a column in a step of that kind (the kind the step should have been)."""
    return f"{DOC} {_BY_KIND[kind][column]}"


def rule_for_kinds(expected: str, seen: str) -> str:
    """The rule behind a step that was of another kind than it should have been."""
    return f"{DOC} {_WHICH}" if "prefill" in (expected, seen) else rule_for(expected, "outputs")
