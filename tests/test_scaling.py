"""The simulated schedule of a nightly run: benchmarks/schedule.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.schedule import Job, simulate


@pytest.mark.parametrize(
    ("jobs", "slots", "wall"),
    [
        ([], 1, 0),
        ([(1, 5)], 4, 5),
        ([(1, 5), (1, 3)], 1, 8),
        ([(1, 5), (1, 3)], 2, 5),
        ([(4, 2), (1, 3)], 4, 5),
        ([(2, 6), (2, 4), (4, 1)], 4, 7),
        ([(1, 4), (1, 3), (1, 3), (1, 2)], 2, 6),
    ],
    ids=str,
)
def test_a_night_takes_as_long_as_by_hand(jobs: list[tuple[int, int]], slots: int, wall: int) -> None:
    assert simulate([Job(*job) for job in jobs], slots).wall == wall


@given(st.lists(st.builds(Job, st.integers(1, 8), st.integers(1, 100)), min_size=1, max_size=30), st.integers(8, 20))
def test_no_night_is_shorter_than_its_work_nor_longer_than_one_by_one(jobs: list[Job], slots: int) -> None:
    done = simulate(jobs, slots)
    assert done.busy == sum(job.slots * job.seconds for job in jobs)
    assert max(done.busy / slots, max(job.seconds for job in jobs)) <= done.wall <= sum(job.seconds for job in jobs)
    assert 0 <= done.idle_share < 1


def test_a_job_that_never_fits_is_an_error() -> None:
    with pytest.raises(ValueError, match="a job needs 8 slots, and there are 4"):
        simulate([Job(8, 1.0)], 4)
