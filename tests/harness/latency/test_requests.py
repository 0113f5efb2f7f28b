"""Tests of the latencies of requests that are computed from step tables, in steps and in seconds."""

import pytest

from harness.latency import latencies_of, request_latencies
from harness.latency.metrics import distribution
from harness.runs.plain_decodes import as_data
from harness.runs.runner import without_plain_decodes
from harness.schedulers.bars import Size
from harness.types import StepRow
from tests.helpers.harness import two_that_overlap

SEEN = two_that_overlap()
SIZES = [Size(60, 5), Size(10, 3, join_step=2)]
SECONDS = (0.0, 0.5, 0.1, 0.4, 0.2, 0.3, 0.1, 0.0)


def test_steps() -> None:
    old, new = request_latencies(SEEN.run.steps, SIZES)
    assert (old.queue, old.first_token, old.prefills, old.suspended) == (0, 1, 1, 0)
    assert old.between == (1, 2, 1, 1)
    assert old.between_decodes == (1, 1)
    assert (new.queue, new.first_token, new.prefills) == (0, 1, 0)
    assert new.between == (1, 1)
    assert new.between_decodes == (1,)


def test_seconds() -> None:
    old, new = request_latencies(SEEN.run.steps, SIZES, SECONDS)
    assert old.first_token == pytest.approx(0.5)
    assert old.between == pytest.approx((0.1, 0.6, 0.3, 0.1))
    assert old.prefills == pytest.approx(0.4)
    assert new.first_token == pytest.approx(0.4)
    assert new.between_decodes == pytest.approx((0.3,))


def test_a_request_that_waits_for_a_place_in_the_batch() -> None:
    rows = [
        StepRow(0, 0, (0, 1), (), (), (), kind="start"),
        StepRow(1, 64, (1,), (0,), (0,), (), kind="prefill"),
        StepRow(2, 65, (1,), (), (0,), (0,), kind="decode"),
        StepRow(3, 64, (), (), (1,), (1,), kind="prefill"),
    ]
    _, second = request_latencies(rows, [Size(9, 2), Size(9, 1)])
    assert (second.queue, second.first_token, second.between) == (2, 3, ())


def test_paused_steps_are_not_prefills_of_others() -> None:
    rows = [
        StepRow(0, 0, (0, 1), (), (), (), paused=(), kind="start"),
        StepRow(1, 64, (1,), (0,), (0,), (), paused=(), kind="prefill"),
        StepRow(2, 64, (), (1,), (1,), (), paused=(0,), kind="prefill"),
        StepRow(3, 65, (), (0,), (1,), (1,), paused=(), kind="decode"),
        StepRow(4, 65, (), (), (0,), (0,), paused=(), kind="decode"),
    ]
    first, _ = request_latencies(rows, [Size(9, 2), Size(9, 2)])
    assert (first.suspended, first.prefills, first.between) == (1, 0, (3,))


def test_recomputation_after_a_preemption_is_suspension() -> None:
    def step(number: int, scheduled: tuple[tuple[int, int], ...], outputs: tuple[int, ...], kind: str) -> StepRow:
        return StepRow(number, None, (), (0,), outputs, (), scheduled=scheduled, kind=kind)

    rows = [
        step(0, (), (), "start"),
        step(1, ((0, 64),), (0,), "prefill"),
        step(2, ((1, 1),), (), "decode"),
        step(3, ((0, 40),), (), "prefill"),
        step(4, ((0, 25),), (0,), "prefill"),
    ]
    (only,) = request_latencies(rows, [Size(64, 2)])
    assert (only.suspended, only.between, only.between_decodes) == (2, (3,), ())


def test_a_request_without_a_token_has_no_latency() -> None:
    assert request_latencies(SEEN.run.steps, [*SIZES, Size(5, 5, 3)])[2:] == []


def test_durations_of_other_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="step_seconds has 3 durations, but there are 8 steps"):
        request_latencies(SEEN.run.steps, SIZES, (0.0, 1.0, 1.0))


def test_results_have_omitted_decodes_and_durations() -> None:
    data = {
        "steps": [as_data(row) for row in without_plain_decodes(SEEN.run.steps)],
        "sizes": [list(size) for size in SIZES],
    }
    untimed = latencies_of({"verdicts": [{"data": {}}, {"data": data}]})
    assert untimed is not None
    assert untimed.steps == tuple(request_latencies(SEEN.run.steps, SIZES))
    assert untimed.seconds == ()
    timed = latencies_of({"verdicts": [{"data": {**data, "step_seconds": list(SECONDS)}}]})
    assert timed is not None
    assert timed.seconds == tuple(request_latencies(SEEN.run.steps, SIZES, SECONDS))
    assert latencies_of({"verdicts": [{"data": {}}]}) is None


def test_tables_without_a_beginning_or_in_another_order_have_no_latency() -> None:
    rows = [as_data(row) for row in SEEN.run.steps]
    for steps in (rows[1:], rows[::-1]):
        assert latencies_of({"verdicts": [{"data": {"steps": steps, "sizes": [[60, 5, 0]]}}]}) is None


def test_tokens_before_a_request_joins_do_not_count() -> None:
    data = {"steps": [as_data(row) for row in SEEN.run.steps], "sizes": [[60, 5, 4], [10, 3, 90]]}
    measured = latencies_of({"verdicts": [{"data": data}]})
    assert measured is not None
    assert [request.request for request in measured.steps] == [0]
    assert measured.steps[0].first_token == 1


def test_distribution() -> None:
    assert distribution([]) is None
    found = distribution([5.0, 1.0, 4.0, 2.0, 3.0])
    assert found is not None
    assert (found.count, found.median, found.p95, found.largest) == (5, 3.0, 5.0, 5.0)
