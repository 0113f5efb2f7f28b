"""Step records as lines of a table, for people who watch a run."""

from collections.abc import Sequence

from engine.core import StepRecord
from engine.scheduling.plan import kind_of

HEADER = (
    f"{'step':>6}  {'kind':<8} {'tkv':>6}  {'reserved':>8} {'used':>5}  {'waiting':<14} {'running':<14} {'finished'}"
)


def trace_line(record: StepRecord) -> str:
    """One step; ids by ``running`` order, long lists shortened."""
    kind = kind_of(record.plan)
    return (
        f"{record.step:>6}  {kind:<8} {record.tkv:>6}  {record.n_reserved_blocks:>8} {record.n_used_blocks:>5}  "
        f"{_ids(record.waiting):<14} {_ids(record.running):<14} {_ids(record.finished_requests)}{_paused(record)}"
    )


def _paused(record: StepRecord) -> str:
    """Those that the batch x tkv limit holds back: nothing with a scheduler that never pauses."""
    if record.chunked is None or not record.chunked.paused:
        return ""
    return f"  paused: {_ids(record.chunked.paused)}"


def _ids(request_ids: Sequence[str], most: int = 4) -> str:
    shown = " ".join(request_ids[:most]) or "-"
    return shown if len(request_ids) <= most else f"{shown} +{len(request_ids) - most}"
