"""Tests of the live progress: only a terminal shows it, in every mode, and it hides no output of pytest."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.pytest_plugin.progress import OTHER_OUTPUT, wanted
from harness.pytest_plugin.progress.view import RunState, rendered
from tests.helpers.pytest_runs import GOOD, WRONG, write

ESCAPE = b"\x1b"
SECONDS = 120


def suites(folder: Path) -> None:
    write(folder, good=GOOD, wrong=WRONG)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--cb-simulate", "-p", "no:cacheprovider", *options, "."]


def on_a_terminal(folder: Path, *options: str, **environment: str) -> bytes:
    """Run the suites with a terminal of 100 columns, and return what is written to the terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    env.pop("COLUMNS", None)
    running = subprocess.Popen(command(*options), cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    written, end = b"", time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                try:
                    chunk = os.read(master, 65536)
                except OSError:  # the other end is closed
                    break
                written += chunk
        running.wait(timeout=20)
    finally:
        running.kill()
        running.wait(timeout=20)
        os.close(master)
    assert running.returncode == 1, written.decode()
    return written


@pytest.mark.parametrize("mode", [[], ["--forked"], ["-n2"], ["--cb-isolation=engine"]], ids=str)
def test_a_terminal_shows_what_runs_and_what_failed_in_every_mode(tmp_path: Path, mode: list[str]) -> None:
    suites(tmp_path)
    message = on_a_terminal(tmp_path, *mode).decode()
    assert "  since " in message
    assert "0 of 2" in message
    assert "wrong.yaml::" in message[: message.index("= FAILURES =")]
    live, _, after = message.partition("= FAILURES =")
    assert "failed" in live
    assert "steps" in live
    # pytest's summary is complete, without parts of the progress display.
    assert "1 failed" in after
    assert "1 passed" in after
    assert "\x1b[2K" not in after
    assert message.count("\x1b[?25l") <= message.count("\x1b[?25h")


def test_who_asks_for_more_gets_what_pytest_says(tmp_path: Path) -> None:
    suites(tmp_path)
    message = on_a_terminal(tmp_path, "-sv")
    assert b"\x1b[2K" not in message
    assert b"  since " not in message


def test_a_pipe_gets_none_of_it(tmp_path: Path) -> None:
    suites(tmp_path)
    done = subprocess.run(command(), cwd=tmp_path, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert ESCAPE not in done.stdout + done.stderr
    assert b"good.yaml ." in done.stdout


def config(isatty: bool = True, **options: Any) -> Any:
    defaults = dict.fromkeys(OTHER_OUTPUT, False) | {"cb_no_progress": False, "verbose": 0, "capture": "fd"}
    option = SimpleNamespace(**defaults | {"log_cli_level": None} | options)
    manager = SimpleNamespace(get_plugin=lambda name: SimpleNamespace(isatty=isatty) if name else None)
    return SimpleNamespace(option=option, pluginmanager=manager, getini=lambda name: False if name else None)


def test_it_is_shown_only_where_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert wanted(config())
    assert not wanted(config(isatty=False))
    for option in ({"verbose": 1}, {"verbose": -1}, {"capture": "no"}, {"usepdb": True}, {"cb_no_progress": True}):
        assert not wanted(config(**option))
    monkeypatch.setenv("TERM", "dumb")
    assert not wanted(config())


def test_it_says_counts_rate_and_what_runs_longest() -> None:
    state = RunState(total=20, counts=Counter(passed=7, failed=1), steps=900, began=1000.0)
    state.running = {f"suite.yaml::case-{i}": 1000.0 + i for i in range(6)}
    console = Console(width=120, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(rendered(state, 1009.0))
    lines = console.export_text().splitlines()
    assert "8 of 20" in lines[0]
    assert "✗ 1 failed" in lines[0]
    assert "✓ 7 passed" in lines[0]
    assert "900 steps, 100/s" in lines[0]
    assert [line.split("::")[1].strip() for line in lines[1:5]] == ["case-0", "case-1", "case-2", "case-3"]
    assert lines[5].strip() == "and 2 more"
