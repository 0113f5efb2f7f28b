"""Determine the kind of a step from a row of the chunked scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """Return the kind of a step.

    ``start`` is the state before the first step. If no request got a token, the step is ``idle`` if tkv is 0, else a
    ``prefill``: a chunk that is not the last one of its prompt. If requests got a token, the step is a ``decode`` if
    all of them are in ``got_tokens``, the requests that got a token in an earlier step. Otherwise it is a ``prefill``:
    the last chunk of a prompt, which gives the request its first token.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "prefill" if row.tkv else "idle"
    return "decode" if set(row.outputs) <= set(got_tokens) else "prefill"
