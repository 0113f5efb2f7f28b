"""Format step records as lines of a table: the step trace that the examples print."""

from collections.abc import Sequence

from engine.core import StepRecord
from engine.scheduling.plan import kind_of

HEADER = (
    f"{'step':>6}  {'kind':<8} {'tkv':>6}  {'reserved':>8} {'used':>5}  {'waiting':<14} {'running':<14} {'finished'}"
)


def trace_line(record: StepRecord) -> str:
    """Return one step as a line of the table. Lists of more than four ids are shortened."""
    kind = kind_of(record.plan)
    return (
        f"{record.step:>6}  {kind:<8} {record.tkv:>6}  {record.n_reserved_blocks:>8} {record.n_used_blocks:>5}  "
        f"{_ids(record.waiting):<14} {_ids(record.running):<14} {_ids(record.finished_requests)}{_own(record)}"
    )


def _own(record: StepRecord) -> str:
    """Return the part of a line that depends on the scheduler.

    For the chunked scheduler it has the paused requests, and for the token-budget scheduler the scheduled tokens and
    the preempted requests.
    """
    if record.chunked is not None and record.chunked.paused:
        return f"  paused: {_ids(record.chunked.paused)}"
    if record.token_budget is None:
        return ""
    scheduled, preempted, _ = record.token_budget
    parts = f"  tokens: {_ids([f'{request_id}:{tokens}' for request_id, tokens in scheduled])}" if scheduled else ""
    return parts + (f"  preempted: {_ids(preempted)}" if preempted else "")


def _ids(request_ids: Sequence[str], most: int = 4) -> str:
    shown = " ".join(request_ids[:most]) or "-"
    return shown if len(request_ids) <= most else f"{shown} +{len(request_ids) - most}"
