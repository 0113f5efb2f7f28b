"""Tests of servers that the harness starts: how they are ended, also if they ignore SIGTERM."""

import os
import sys
import time
from contextlib import suppress

import pytest

from harness.drivers import servers
from harness.drivers.servers import ServerProcess, StubbornServerError

WITH_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"ready: http://127.0.0.1/{child.pid}", flush=True)
child.wait()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready: http://127.0.0.1/", flush=True)
time.sleep(600)
"""


def start(program: str) -> ServerProcess:
    return ServerProcess([sys.executable, "-c", program], None, os.environ)


def is_there(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_what_a_server_started_ends_with_it() -> None:
    server = start(WITH_A_CHILD)
    child = int(server.url.rsplit("/", 1)[1])
    assert is_there(child)
    server.end()
    give_up = time.monotonic() + 30
    while is_there(child) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not is_there(child)


def test_a_server_that_does_not_end_is_reported_and_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(STUBBORN)
    first = server.process.pid
    monkeypatch.setattr(servers, "END_SECONDS", 1)
    monkeypatch.setattr(servers, "CLOSE_SECONDS", 1)
    try:
        with pytest.raises(StubbornServerError, match="did not end within 1 s after SIGTERM"):
            server.restart("stop")
        assert server.process.pid != first
        assert server.process.poll() is None
        assert not is_there(first)
    finally:
        server.end()
