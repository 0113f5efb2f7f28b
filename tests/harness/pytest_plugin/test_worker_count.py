"""Tests of the number of workers that ``-n auto`` starts."""

from pathlib import Path

import pytest

from harness.pytest_plugin.isolation import worker_count
from tests.helpers.pytest_runs import GOOD, simulated, write


@pytest.mark.parametrize(("gigabytes", "workers"), [(1, 1), (5, 2), (64, 4), (None, 4)])
def test_workers_are_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int | None, workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(worker_count, "free_memory", lambda: None if gigabytes is None else gigabytes << 30)
    assert worker_count.useful_workers() == workers


def test_free_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  24 kB\nMemAvailable:   20 kB\n")
    assert worker_count.free_memory(tmp_path / "meminfo") == 20 * 1024
    assert worker_count.free_memory(tmp_path / "nothing") is None


def test_auto_is_understood(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = simulated(tmp_path, "--cb-isolation=engine", "-n", "auto", ".")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
