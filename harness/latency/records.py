"""Compute latencies from the results of tests: in engine steps and, if the steps were timed, also in seconds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.latency.requests import RequestLatency, request_latencies
from harness.runs.plain_decodes import from_data, lengthen
from harness.schedulers.bars import Size

Record = Mapping[str, Any]


class Measured(NamedTuple):
    """The latencies of the requests of one test, in steps and in seconds.

    ``seconds`` is empty if the steps of the test were not timed.
    """

    steps: tuple[RequestLatency, ...]
    seconds: tuple[RequestLatency, ...]


def latencies_of(record: Record) -> Measured | None:
    """Return the latencies of the requests of one test. ``record`` is the test's line of a results file.

    Return None if the record has no step table with all steps from step 0.
    """
    for verdict in record.get("verdicts", ()):
        data = verdict.get("data", {})
        if "sizes" in data and data.get("steps") and not data.get("broken"):
            return _measured(data)
    return None


def _measured(data: Record) -> Measured | None:
    rows = lengthen([from_data(row) for row in data["steps"]])
    if [row.step for row in rows] != list(range(len(rows))):
        return None
    sizes = [Size(*size) for size in data["sizes"]]
    timed = data.get("step_seconds") or ()
    return Measured(
        tuple(request_latencies(rows, sizes)),
        tuple(request_latencies(rows, sizes, timed)) if len(timed) == len(rows) else (),
    )
