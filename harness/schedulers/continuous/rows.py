"""The step table of continuous batching: its columns, and what kind of step a row describes."""

from collections.abc import Collection

from harness.types import StepRow


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:  # noqa: ARG001
    """``start``, ``prefill``, ``decode`` or ``idle``; a prefill is of a sequence that did not run before."""
    if row.step == 0 or before is None:
        return "start"
    if not row.outputs:
        return "idle"
    return "prefill" if set(row.outputs) - set(before.running) else "decode"
