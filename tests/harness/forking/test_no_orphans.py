"""Tests that all processes of a run end after ``kill -9`` of any one of them."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import GOOD, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

BOUND = 60.0
"""Timeout in seconds for a process of a run to start or end. It usually takes a few."""
HANGS = """\
import os, time
from engine.core import EngineCore
step = EngineCore.step
def hangs(self):
    if os.environ.get("HANGS") and "PYTEST_CURRENT_TEST" in os.environ:
        time.sleep(600)
    return step(self)
EngineCore.step = hangs
"""
ROLES = {
    "parent": "harness.pytest_plugin.isolation.preloaded",
    "engine": "harness.pytest_plugin.isolation.child",
    "worker": "sys.stdin.readline",
    "rank": "engine.tensor_parallel.worker",
    "server": "engine.entrypoints.server",
}
AT_A_SERVER = """\
suite: served
kind: behaviour
markers: [cb]
parameters: {entry_point: [http]}
cases:
  - id: waits
    actions:
      - check: {name: "forever:wait"}
"""
AT_A_SHARED_SERVER = """\
suite: shared
kind: behaviour
markers: [cb]
parameters: {entry_point: [http]}
cases:
  - id: waits
    actions:
      - check: {name: slow-reader, options: {seconds: 100}}
"""


class Run:
    """A run of pytest in a subprocess. Its processes are found by a variable in their environment."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.mark = f"SPYRE_CB_TEST_RUN={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", *arguments]
        environ = os.environ | {name: value, "HANGS": "1"}
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.controller = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # CI may ignore SIGINT
            )

    def processes(self) -> dict[int, str]:
        """Return the command lines of the run's processes by process id. Zombies are left out."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def of(self, role: str) -> list[int]:
        if role == "controller":
            return [self.controller.pid]
        return [pid for pid, command in self.processes().items() if ROLES[role] in command]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < give_up, f"{what}: {self.processes()}\n{self.output.read_text()}"
            time.sleep(0.1)

    def kill(self, role: str) -> int:
        self.wait_for(f"no {role}", lambda: bool(self.of(role)))
        pid = self.of(role)[0]
        os.kill(pid, signal.SIGKILL)
        return pid


@pytest.fixture
def started() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        for pid in run.processes():
            os.kill(pid, signal.SIGKILL)
        run.controller.wait()


def hanging_steps(folder: Path) -> None:
    (folder / "conftest.py").write_text(HANGS, encoding="utf-8")
    write(folder, mine=GOOD)


@pytest.mark.parametrize("mode", ["case", "engine"])
def test_when_the_controller_is_killed_everything_goes(tmp_path: Path, started: list[Run], mode: str) -> None:
    hanging_steps(tmp_path)
    run = Run(tmp_path, "--cb-simulate", f"--cb-isolation={mode}", "-n1", ".")
    started.append(run)
    run.wait_for("no engine", lambda: bool(run.of("engine")) and bool(run.of("worker")))
    run.kill("controller")
    run.controller.wait()
    run.wait_for("left behind", lambda: not run.processes())


def test_when_a_worker_is_killed_its_engine_goes_and_the_run_goes_on(tmp_path: Path, started: list[Run]) -> None:
    hanging_steps(tmp_path)
    run = Run(tmp_path, "--cb-simulate", "--cb-isolation=engine", "-n1", ".")
    started.append(run)
    run.wait_for("no engine", lambda: bool(run.of("engine")))
    engine = run.of("engine")[0]
    run.kill("worker")
    run.wait_for("the engine is left", lambda: engine not in run.processes())
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    assert "1 failed" in run.output.read_text()
    run.wait_for("left behind", lambda: not run.processes())


@pytest.mark.parametrize("role", ["engine", "parent"])
def test_when_an_engine_is_killed_one_case_fails(tmp_path: Path, started: list[Run], role: str) -> None:
    hanging_steps(tmp_path)
    run = Run(tmp_path, "--cb-simulate", "--cb-isolation=engine", ".")
    started.append(run)
    run.wait_for("no engine", lambda: bool(run.of("engine")))
    run.kill(role)
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    assert "died of signal 9 (SIGKILL)" in run.output.read_text()
    run.wait_for("left behind", lambda: not run.processes())


def test_ctrl_c_ends_all_processes(tmp_path: Path, started: list[Run]) -> None:
    hanging_steps(tmp_path)
    run = Run(tmp_path, "--cb-simulate", "--cb-isolation=engine", ".")
    started.append(run)
    run.wait_for("no engine", lambda: bool(run.of("engine")))
    run.controller.send_signal(signal.SIGINT)
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    assert run.controller.returncode == pytest.ExitCode.INTERRUPTED
    run.wait_for("left behind", lambda: not run.processes())


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="tensor_parallel_size 2 needs as many cores")
@pytest.mark.parametrize("role", ["rank", "engine"])
def test_when_a_part_of_a_divided_engine_is_killed_all_of_it_goes(
    tmp_path: Path, started: list[Run], role: str
) -> None:
    hanging_steps(tmp_path)
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {tensor_parallel_size: [2]}\ncases:"))
    run = Run(tmp_path, "--cb-isolation=engine", "--cb-case-timeout=5", ".")
    started.append(run)
    run.wait_for("no two ranks", lambda: len(run.of("rank")) == 2)
    run.kill(role)
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    assert "1 failed" in run.output.read_text()
    run.wait_for("left behind", lambda: not run.processes())


@pytest.mark.parametrize("role", ["controller", "engine"])
def test_a_server_goes_with_the_process_that_started_it(tmp_path: Path, started: list[Run], role: str) -> None:
    write(tmp_path, served=AT_A_SERVER)
    (tmp_path / "forever.py").write_text("import time\nasync def wait(*_, **__):\n    time.sleep(600)\n")
    (tmp_path / "conftest.py").write_text(
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n"
    )
    run = Run(tmp_path, "--cb-isolation=engine", ".")
    started.append(run)
    run.wait_for("no server", lambda: bool(run.of("server")))
    run.kill(role)
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    run.wait_for("left behind", lambda: not run.processes())


@pytest.mark.parametrize(
    ("mode", "role"), [("engine", "controller"), ("engine", "engine"), ("case", "controller"), ("case", "engine")]
)
def test_a_server_that_cases_share_goes_with_the_process_that_started_it(
    tmp_path: Path, started: list[Run], mode: str, role: str
) -> None:
    write(tmp_path, shared=AT_A_SHARED_SERVER)
    run = Run(tmp_path, f"--cb-isolation={mode}", ".")
    started.append(run)
    run.wait_for("no server", lambda: bool(run.of("server")))
    run.kill(role)
    run.wait_for("it does not end", lambda: run.controller.poll() is not None)
    run.wait_for("left behind", lambda: not run.processes())


def test_a_worker_outlives_the_thread_that_started_it_not_the_process(tmp_path: Path) -> None:
    """A worker must end when the process that started it ends, and not already when the thread that started it ends.

    Linux sends the parent-death signal at the end of the thread that started a process.
    """
    program = (
        "import asyncio, time\n"
        "from harness.utils.subprocesses import start_with_parent\n"
        "async def main():\n"
        "    return await asyncio.to_thread(start_with_parent, ['sleep', '600'])\n"
        "print(asyncio.run(main()).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        time.sleep(0.5)  # the thread ended with the loop; a bound child would have ended by now
        assert child.exists()
        parent.kill()
        give_up = time.monotonic() + BOUND
        while child.exists() and "State:\tZ" not in (child / "status").read_text():
            assert time.monotonic() < give_up
            time.sleep(0.05)
