"""Tests of ``Worker``: the report of a child that takes too long says what took too long."""

import subprocess
import sys

import pytest

from harness.pytest_plugin.isolation import stacks, worker
from harness.pytest_plugin.isolation.launching import Files, Launch
from harness.pytest_plugin.isolation.messages import Broken, Start
from harness.pytest_plugin.isolation.worker import Worker

SAYS = """\
import sys, time
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
for word in sys.argv[2:]:
    connection.send_bytes(b'{"word": "%s"}' % word.encode())
time.sleep(60)
"""
START = Start((), {}, (), forks=False, shown=False)


def child_that_says(*words: str) -> Launch:
    """Return a function that starts a process that sends the messages ``words``, and then hangs."""

    def launch(_: Start, files: Files) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SAYS, str(files.connection), *words]
        return subprocess.Popen(command, pass_fds=[files.connection], start_new_session=True)

    return launch


@pytest.mark.parametrize(
    ("words", "start", "reported"),
    [
        ([], 0.5, "the process of this case took longer than 0.5 s to start"),
        (["ready", "opening"], 3, "starting an engine or server for this case took longer than 3 s"),
        (["ready"], 30, "this case took longer than 0.5 s (--cb-case-timeout)"),
        (["ready", "opening", "opened"], 30, "this case took longer than 0.5 s (--cb-case-timeout)"),
    ],
)
def test_a_hang_is_reported_as_what_took_too_long(
    monkeypatch: pytest.MonkeyPatch, words: list[str], start: float, reported: str
) -> None:
    monkeypatch.setattr(worker, "START_SECONDS", start)
    monkeypatch.setattr(stacks, "ANSWER_SECONDS", 0.1)
    broken = Worker(START, child_that_says(*words)).run("mine.yaml::case", 0.5)
    assert isinstance(broken, Broken)
    assert broken.what == f"{reported}, so the process of the case was killed"
