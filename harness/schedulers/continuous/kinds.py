"""The kind of step that a row of the continuous scheduler's step table describes."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:  # noqa: ARG001
    """Return ``start``, ``prefill``, ``decode`` or ``idle``. A prefill has a sequence that did not run before."""
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "idle"
    return "prefill" if set(row.outputs) - set(before.running) else "decode"
