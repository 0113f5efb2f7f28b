"""Determine the kind of a step from a row of the chunked scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:
    """Return the kind of a step.

    ``start`` is the state before the first step. A step without outputs is ``idle`` if tkv is 0; otherwise it is a
    ``prefill``: a chunk that is not the last of its prompt. A step with outputs is a ``decode`` if all its requests
    are in ``got_tokens``, the requests that got a token before this step. Otherwise it is a ``prefill``: the last
    chunk of a prompt, which gives the request its first token.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "prefill" if row.tkv else "idle"
    return "decode" if set(row.outputs) <= set(got_tokens) else "prefill"
