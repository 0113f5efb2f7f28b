"""Runs of pytest on suites with an injected hang that are killed with ``kill -9`` in the middle of a test."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.pytest_runs import GOOD, PYTEST, WRONG, variables, write

INJECTED = """\
import os, pathlib, time
from engine.core import EngineCore
step = EngineCore.step
def injected(self):
    here = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition("[")[0]
    with open("ran", "a") as file:
        file.write(here + "\\n")
    if here == "hangs" and not pathlib.Path("again").exists():
        pathlib.Path("hanging").touch()
        time.sleep(600)
    return step(self)
EngineCore.step = injected
"""
OUTCOMES = {"first": "passed", "fails": "failed", "hangs": "passed", "other": "passed", "last": "passed"}
"""The cases of the suites. ``hangs`` hangs until there is a file ``again``."""


def suites_with_a_hang(folder: Path) -> None:
    """Write a suite for each case, and the conftest.py that lets one hang and lists the cases that ran."""

    def one(name: str, text: str) -> str:
        return text.replace("suite: mine", f"suite: {name}").replace("suite: wrong", f"suite: {name}")

    texts = {name: WRONG if outcome == "failed" else GOOD for name, outcome in OUTCOMES.items()}
    write(
        folder,
        **{f"{i}-{name}": one(name, text).replace("five-lines", name) for i, (name, text) in enumerate(texts.items())},
    )
    (folder / "conftest.py").write_text(INJECTED, encoding="utf-8")


def killed(folder: Path, *arguments: str) -> None:
    """Run pytest in ``folder``, and kill all its processes while the case hangs."""
    started = start(folder, *arguments)
    until = time.monotonic() + 120
    while not (folder / "hanging").exists():
        assert started.poll() is None, "pytest ended before the case that hangs"
        assert time.monotonic() < until, "the case that hangs did not run"
        time.sleep(0.02)
    time.sleep(0.5)  # Other workers may go on.
    os.killpg(started.pid, signal.SIGKILL)
    started.wait(20)


def start(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start pytest, without a model, in a process group of its own."""
    return subprocess.Popen(
        [*PYTEST, "--cb-simulate", *arguments],
        cwd=folder,
        env=variables(**(environment or {})),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def ran(folder: Path) -> set[str]:
    """Return the cases that ran since the last call."""
    names = set((folder / "ran").read_text(encoding="utf-8").split())
    (folder / "ran").unlink()
    return names


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the outcome of each case in lines of a results file."""
    return {line["test"].rpartition("::")[2].partition("[")[0]: line["outcome"] for line in lines if "test" in line}
