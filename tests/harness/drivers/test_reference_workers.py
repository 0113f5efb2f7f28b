"""Tests of tensor-parallel workers that are forked from the process of an engine."""

import os
import subprocess
import sys
import threading

import pytest

from engine.tensor_parallel.workers import spawn_worker
from harness.drivers.reference import workers as reference_workers
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="forks are for Linux, and two workers for two cores"
)
ENGINE = """\
import os, signal, subprocess
from engine.config import EngineConfig
from engine.tensor_parallel.workers import WorkerDiedError, Workers
from engine.scheduling.plan import Decode
from harness.drivers.reference import ReferenceDriver
from harness.pytest_plugin.isolation.stacks import command
ReferenceDriver().preload()
def refused(*arguments, **more):
    raise AssertionError("a new process was started")
subprocess.Popen = refused
inherited = open("pyproject.toml")
def files(pid):
    return [os.readlink(file.path) for file in os.scandir(f"/proc/{pid}/fd")]
workers = Workers(EngineConfig(tensor_parallel_size=2))
workers.ready()
for pid in workers.process_ids:
    print(command(pid), os.path.abspath("pyproject.toml") in files(pid), os.readlink(f"/proc/{pid}/fd/1"))
os.kill(workers.process_ids[1], signal.SIGKILL)
try:
    workers.logits(Decode(("a",), 0, (0,), ((1,),)), (5,))
except WorkerDiedError as error:
    print(error)
workers.close()
print([os.path.exists(f"/proc/{pid}") for pid in workers.process_ids])
"""


def test_workers_are_named_forks_without_their_parents_files() -> None:
    # Workers are forked only if the process has one thread.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ENGINE], cwd=ROOT, env=one_thread, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        *["engine.tensor_parallel.worker False /dev/null"] * 2,
        "worker 1 of 2 was ended by SIGKILL",
        "[False, False]",
    ]


def test_a_process_with_threads_spawns_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    def spawned(meeting_place: str) -> object:
        requested.append(meeting_place)
        return spawn_worker

    monkeypatch.setattr(reference_workers, "spawn_worker", spawned)
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        reference_workers._fork_or_spawn("somewhere")
    finally:
        waiting.set()
        thread.join()
    assert requested == ["somewhere"]


def test_how_a_forked_worker_ended_is_known_also_later() -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 600"], {})
    worker = reference_workers.ForkedWorker(pid)
    assert worker.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.05)
    worker.kill()
    assert worker.wait(60) == -9
    assert worker.poll() == -9
    worker.kill()
