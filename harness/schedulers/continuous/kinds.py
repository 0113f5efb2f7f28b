"""Determine the kind of a step from a row of the continuous scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:  # noqa: ARG001
    """Return the kind of a step: ``start``, ``prefill``, ``decode`` or ``idle``.

    A step is a prefill if a request that got a token in ``row`` was not running in the previous row, ``before``.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "idle"
    return "prefill" if set(row.outputs) - set(before.running) else "decode"
