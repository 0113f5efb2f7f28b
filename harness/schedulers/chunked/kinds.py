"""The kind of step that a row of the chunked scheduler's step table describes."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """Return ``start``, ``prefill``, ``decode`` or ``idle``.

    ``got_tokens`` are the requests with tokens before the row. A chunk that is not the last yields no token, but has a
    tkv. The last chunk yields the first token of a request.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "prefill" if row.tkv else "idle"
    return "decode" if set(row.outputs) <= set(got_tokens) else "prefill"
