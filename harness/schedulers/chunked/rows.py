"""The step table of chunked prefill: its columns, and what kind of step a row describes."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """``start``, ``prefill``, ``decode`` or ``idle``; ``got_tokens`` are the requests that got any before it.

    A chunk that is not the last yields nothing, but reports a tkv; the last one yields a request's first token.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "prefill" if row.tkv else "idle"
    return "decode" if set(row.outputs) <= set(got_tokens) else "prefill"
