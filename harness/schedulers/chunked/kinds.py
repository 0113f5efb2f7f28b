"""Determine the kind of a step from a row of the chunked scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """Return the kind of a step: ``start``, ``prefill``, ``decode`` or ``idle``.

    ``got_tokens`` are the requests that got a token before this step. The last chunk of a prompt gives the request its
    first token. The other chunks give no token, but tkv is not 0 in their steps.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "prefill" if row.tkv else "idle"
    return "decode" if set(row.outputs) <= set(got_tokens) else "prefill"
