"""Determine the kind of a step from a row of the token-budget scheduler's step table."""

from collections.abc import Collection

from harness.types import StepRow


def decodes_in(row: StepRow, before: StepRow) -> tuple[int, ...]:
    """Return the requests that decode in the step of ``row``. ``before`` is the row before it.

    A request decodes if it was running before the step and computes only its last token.
    """
    return tuple(r for r, tokens in row.scheduled or () if tokens == 1 and r in row.outputs and r in before.running)


def kind_of_row(row: StepRow, before: StepRow | None, got_tokens: Collection[int] = ()) -> str:  # noqa: ARG001
    """Return the kind of the step that ``row`` describes. ``before`` is the row of the previous step.

    ``start`` is the state before the first step. A step is ``idle`` if it schedules no request, a ``decode`` if all
    scheduled requests decode, a ``prefill`` if none of them does, and ``mixed`` otherwise. ``got_tokens`` is not used.
    """
    if row.step == 0 or before is None:
        return "start"
    if not row.scheduled:
        return "idle"
    decodes = len(decodes_in(row, before))
    return "prefill" if not decodes else "decode" if decodes == len(row.scheduled) else "mixed"
