"""Tests of processes that are forked from a running process, and of how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.forking.messages import Request
from harness.forking.process import ForkedProcess, ForkRefusedError, ServerGoneError
from harness.pytest_plugin.isolation.stacks import command, descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")

BOUND = 60.0
SERVER = """\
import os, socket, sys, threading, time
from harness.forking.server import ForkServer
from harness.forking.wire import receive
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print(flush=True)
client, _ = listener.accept()
request, fds = receive(client)
prepared = []
def prepare(branch):
    if branch == "crashes":
        os._exit(5)
    prepared.append(branch)
if "thread" in sys.argv:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
work = ForkServer(listener, prepare, lambda: None, (request, fds, client)).serve()
if work:
    exec(work[0])
    os._exit(0)
"""
SLEEP = "time.sleep(600)"
Started = Callable[..., tuple[subprocess.Popen[str], Path]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Started]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], Path]:
        address = tmp_path / "socket"
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(address), *arguments], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process, address

    yield start
    for process in started:
        process.kill()
        process.communicate()


def fork(address: Path, work: str, *, output: Path | None = None, branch: str | None = None) -> ForkedProcess:
    request = Request(work, dict(os.environ), "a.fork", output is not None, branch)
    if output is None:
        return ForkedProcess(address, request, [])
    with output.open("wb") as file:
        return ForkedProcess(address, request, [file.fileno(), file.fileno()])


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def gone(pid: int) -> bool:
    status = Path("/proc", str(pid), "status")
    try:
        return "State:\tZ" in status.read_text()
    except OSError:
        return True


@pytest.mark.parametrize(("work", "returncode"), [("pass", 0), ("os._exit(3)", 3), ("os.kill(os.getpid(), 11)", -11)])
def test_the_exit_status_of_a_fork_is_reported(server: Started, work: str, returncode: int) -> None:
    _, address = server()
    assert fork(address, work).wait(BOUND) == returncode


def test_a_fork_has_the_requested_environment_output_and_name(server: Started, tmp_path: Path) -> None:
    _, address = server()
    os.environ["SPYRE_CB_TEST_FORK"] = "here"
    try:
        requested = "print(os.environ['SPYRE_CB_TEST_FORK'], os.getpgid(0) == os.getpid(), flush=True); " + SLEEP
        process = fork(address, requested, output=tmp_path / "output")
    finally:
        del os.environ["SPYRE_CB_TEST_FORK"]
    wait_for(lambda: (tmp_path / "output").read_text() == "here True\n")
    assert command(process.pid) == "a.fork"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(BOUND) == -signal.SIGKILL


def test_a_fork_that_ends_takes_no_other_along(server: Started) -> None:
    _, address = server()
    stays = fork(address, SLEEP)
    assert fork(address, "os.kill(os.getpid(), 9)").wait(BOUND) == -9
    assert stays.poll() is None
    assert fork(address, "pass").wait(BOUND) == 0


def test_a_fork_ends_with_the_process_that_requested_it(server: Started) -> None:
    served, address = server()
    program = (
        "import os, pathlib, sys, time\n"
        "from harness.forking.messages import Request\n"
        "from harness.forking.process import ForkedProcess\n"
        "process = ForkedProcess(pathlib.Path(sys.argv[1]), Request(sys.argv[2], dict(os.environ), 'x', False), [])\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program, address, SLEEP], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    assert not gone(pid)
    client.kill()
    client.communicate()
    wait_for(lambda: gone(pid))
    assert served.poll() is None


@pytest.mark.parametrize("branch", [None, "one"])
def test_a_fork_ends_with_the_server(server: Started, branch: str | None) -> None:
    served, address = server()
    process = fork(address, SLEEP, branch=branch)
    served.kill()
    assert process.wait(BOUND) == -signal.SIGKILL
    wait_for(lambda: gone(process.pid))
    with pytest.raises(ServerGoneError):
        fork(address, "pass")


def test_forks_of_a_branch_find_it_prepared_once(server: Started, tmp_path: Path) -> None:
    served, address = server()
    expected = "print(prepared, os.getppid(), flush=True)"
    for name, branch in (("a", "one"), ("b", "one"), ("c", "two"), ("d", None)):
        assert fork(address, expected, output=tmp_path / name, branch=branch).wait(BOUND) == 0
    a, b, c, d = ((tmp_path / name).read_text().rsplit(" ", 1) for name in "abcd")
    assert a == b
    assert (a[0], c[0], d[0]) == ("['one']", "['two']", "[]")
    assert len({int(a[1]), int(c[1]), int(d[1])}) == 3
    assert int(d[1]) == served.pid


def test_forks_come_from_the_server_where_their_branch_died(server: Started, tmp_path: Path) -> None:
    served, address = server()
    for name in "ab":
        expected = "print(prepared, os.getppid(), flush=True)"
        assert fork(address, expected, output=tmp_path / name, branch="crashes").wait(BOUND) == 0
        assert (tmp_path / name).read_text() == f"[] {served.pid}\n"
    wait_for(lambda: not descendants(served.pid))


def test_a_server_with_threads_does_not_fork_and_says_why(server: Started) -> None:
    _, address = server("thread")
    for branch in (None, "one"):
        with pytest.raises(ForkRefusedError, match="a process with 2 threads can't be forked"):
            fork(address, "pass", branch=branch)


def test_the_name_of_a_process_is_cut_off_where_there_is_no_room_for_it() -> None:
    program = (
        "from harness.forking.name import name_module\n"
        "name_module('x' * 4000)\n"
        "print(open('/proc/self/cmdline').read())\n"
    )
    message = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert message.startswith("python\0-m\0xxx")
