"""Determine the kind of a step from a row of the continuous scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:  # noqa: ARG001
    """Return the kind of the step that ``row`` describes. ``before`` is the row of the previous step.

    ``start`` is the state before the first step. A step is ``idle`` if no request got a token, a ``prefill`` if a
    request that got a token was not running in ``before``, and a ``decode`` otherwise. ``got_tokens`` is not used.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "idle"
    return "prefill" if set(row.outputs) - set(before.running) else "decode"
