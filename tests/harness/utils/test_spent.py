"""Tests of the summary of the time that a run spent, by purpose."""

import json
import re
from pathlib import Path

import pytest

from harness.utils import spent
from tests.helpers.pytest_runs import GOOD, SPAWNED, simulated, write


def test_what_is_taken_is_forgotten() -> None:
    spent.take()
    spent.add("steps", 3)
    spent.add("steps", 4)
    with pytest.raises(ZeroDivisionError), spent.timed("stepping"):
        _ = 1 / 0
    taken = spent.take()
    assert taken["steps"] == 7
    assert "stepping" in taken
    assert spent.take() == {}


def test_a_summary_leaves_out_what_there_was_none_of() -> None:
    assert spent.summary({}) == ""
    message = spent.summary({"engines": 2, "opening": 0.31, "steps": 1056, "stepping": 9.84})
    assert message == "2 engines built in 0.3 s; 1056 steps in 9.8 s"
    message = spent.summary(
        {"imports": 4.02, "traced": 1, "tracing": 3.0, "servers": 1, "serving": 2.0, "behaviour": 1.0}
    )
    assert message == (
        "imports 4.0 s; 1 engine traced and built in 3.0 s; 1 server started in 2.0 s; behaviour cases 1.0 s"
    )


@pytest.mark.parametrize(
    ("mode", "engines"),
    [
        ("--cb-isolation=none", 1),
        ("--cb-isolation=engine", 1),
        (SPAWNED, 1),
        ("--cb-isolation=case", 2),
        ("--cb-isolation=engine -n2", 1),
    ],
)
def test_every_process_of_a_run_is_counted(tmp_path: Path, mode: str, engines: int) -> None:
    """Two cases of one engine run in each mode. In simulation, each forked process starts the engine again."""
    write(tmp_path, one=GOOD.replace("mine", "one"), two=GOOD.replace("mine", "two"))
    done = simulated(tmp_path, *mode.split(), "--cb-results", "r.jsonl", ".")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    footer = json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert footer["spent"]["engines"] == engines
    steps = int(footer["spent"]["steps"])
    assert steps > 2
    assert steps % 2 == 0
    message = rf"time spent in all processes together: .*{engines} engines? built in [\d.]+ s; {steps} steps in"
    assert re.search(message, done.stdout)
