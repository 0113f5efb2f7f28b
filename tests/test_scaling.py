"""Tests of the simulation of a nightly run (benchmarks/schedule.py), also with lost nodes (cluster_night.py)."""

import importlib
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.schedule import Job, simulate
from tests.helpers.paths import ROOT


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
    with pytest.raises(ValueError, match="a job needs 8 slots, but there are only 4"):
        simulate([Job(8, 1.0)], 4)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module benchmarks/cluster_night.py, which is not in a package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("cluster_night")


@pytest.mark.parametrize(
    ("losses", "resumes", "seconds"),
    [
        ([], True, 10 + 8 * 5),
        # Lost after 3 of 8 cases. The other card is in use until 50 s; the lost one is back at 25 + 900 s.
        ([25.0], True, 50 + 10 + 5 * 5),
        ([25.0], False, 50 + 10 + 8 * 5),
        # Lost before the first case ended.
        ([14.0], True, 50 + 10 + 8 * 5),
    ],
)
def test_a_lost_node_takes_as_long_as_by_hand(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, losses: list[float], resumes: bool, seconds: float
) -> None:
    monkeypatch.setattr(cluster, "CARDS_A_NODE", 1)
    pods = [cluster.Pod(cards=1, start=10, cases=8, case=5)] * 2
    assert cluster.night(pods, 2, losses, Random(0), resumes=resumes) == seconds


def test_the_page_has_what_is_simulated_and_the_model_agrees(cluster: Any) -> None:
    durations = cluster.read(cluster.DURATIONS)
    found = list(cluster.rows(durations))
    assert {(cards, lost) for cards, lost, *_ in found} == {(c, n) for c in (10, 32, 128, 1000) for n in (0, 1, 10, 50)}
    for cards, lost, model, simulated, without in found:
        assert abs(model / simulated - 1) < 0.10, (cards, lost)
        assert simulated <= without * 1.02, (cards, lost)
    assert cluster.as_table(found) in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
