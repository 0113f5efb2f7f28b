"""The latency of each request of a run, from its step table, in engine steps or in seconds.

The time at which a step ends is either the number of the step, or the sum of the durations of all steps so far. A
request joins the queue at the end of its ``join_step``. The time between two steps, in which the harness reads the
engine's state, is not counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from harness.schedulers.bars import Size
from harness.suites.schema import format_of_row
from harness.types import StepRow


@dataclass(frozen=True)
class RequestLatency:
    """The latency of one request. All times are in steps, or all are in seconds.

    ``queue``: from joining the queue to the start of the first step that computes tokens of the request.
    ``first_token``: from joining the queue to the end of the step with the first token.
    ``between``: the time from each token to the next. ``between_decodes``: the time from a token to the next, only for
    pairs of tokens generated in consecutive decode steps, so that no prefill of another request lies between them.
    ``prefills``: the total time of the steps between the request's first and last token in which prefills of other
    requests were computed and this request got no token. ``suspended``: the total time, after the request's first
    token, in which it was paused, or was preempted and had not got its next token yet.
    """

    request: int
    queue: float
    first_token: float
    between: tuple[float, ...]
    between_decodes: tuple[float, ...]
    prefills: float
    suspended: float


def clock(rows: Sequence[StepRow], step_seconds: Sequence[float] = ()) -> list[float]:
    """Return the time at which each step ends, one value for each row.

    ``step_seconds`` has the duration of each step. The times are then in seconds since step 0. If it is empty, the
    times are the numbers of the steps.
    """
    return list(accumulate(step_seconds)) if step_seconds else [float(row.step) for row in rows]


def request_latencies(
    rows: Sequence[StepRow], sizes: Sequence[Size], step_seconds: Sequence[float] = ()
) -> list[RequestLatency]:
    """Return the latency of each request that got a token.

    ``rows`` must have a row for every step from step 0 on, with its ``kind``. ``step_seconds`` has the duration of each
    step in seconds, 0 for step 0. If it is empty, latencies are in steps. Raises ValueError if ``step_seconds`` is not
    empty and differs in length from ``rows``.
    """
    if step_seconds and len(step_seconds) != len(rows):
        raise ValueError(f"step_seconds has {len(step_seconds)} durations, but there are {len(rows)} steps")
    ends = clock(rows, step_seconds)
    return [
        latency
        for request, size in enumerate(sizes)
        if (latency := _latency(rows, ends, request, size.join_step)) is not None
    ]


def _latency(rows: Sequence[StepRow], ends: Sequence[float], request: int, join_step: int) -> RequestLatency | None:
    tokens = [row.step for row in rows if request in row.outputs and row.step > join_step]
    if not tokens:
        return None
    scheduler = format_of_row(rows[0])
    first, last = tokens[0], tokens[-1]
    began = next((row.step for row in rows[join_step + 1 : first] if scheduler.computes(row, request)), first)
    without = [row for row in rows[first + 1 : last] if request not in row.outputs]
    suspended = [row.step for row in without if scheduler.suspends(row, request)]
    prefills = [row.step for row in without if row.step not in suspended and row.kind in ("prefill", "mixed")]
    return RequestLatency(
        request,
        queue=ends[began - 1] - ends[join_step],
        first_token=ends[first] - ends[join_step],
        between=tuple(ends[b] - ends[a] for a, b in pairwise(tokens)),
        between_decodes=tuple(_decode_times(rows, ends, tokens)),
        prefills=_total(ends, prefills),
        suspended=_total(ends, suspended),
    )


def _decode_times(rows: Sequence[StepRow], ends: Sequence[float], tokens: Sequence[int]) -> Iterator[float]:
    for a, b in pairwise(tokens):
        if b == a + 1 and rows[a].kind == rows[b].kind == "decode":
            yield ends[b] - ends[a]


def _total(ends: Sequence[float], steps: Sequence[int]) -> float:
    return sum(ends[step] - ends[step - 1] for step in steps)
