"""Run pytest on suites in which one case hangs, and kill the run with ``kill -9`` while that case hangs."""

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
"""The cases of the suites, with their outcomes. The case ``hangs`` hangs, unless the file ``again`` exists."""


def suites_with_a_hang(folder: Path) -> None:
    """Write a suite for each case in OUTCOMES, and a conftest.py that makes one case hang.

    The conftest.py also records which cases ran.
    """

    def one(name: str, text: str) -> str:
        return text.replace("suite: mine", f"suite: {name}").replace("suite: wrong", f"suite: {name}")

    texts = {name: WRONG if outcome == "failed" else GOOD for name, outcome in OUTCOMES.items()}
    write(
        folder,
        **{f"{i}-{name}": one(name, text).replace("five-lines", name) for i, (name, text) in enumerate(texts.items())},
    )
    (folder / "conftest.py").write_text(INJECTED, encoding="utf-8")


def killed(folder: Path, *arguments: str) -> None:
    """Run pytest in ``folder`` until the case ``hangs`` hangs, and then kill all processes of the run."""
    started = start(folder, *arguments)
    until = time.monotonic() + 120
    while not (folder / "hanging").exists():
        assert started.poll() is None, "pytest ended before the case that hangs"
        assert time.monotonic() < until, "the case that hangs did not run"
        time.sleep(0.02)
    time.sleep(0.5)  # Other workers may run more cases.
    os.killpg(started.pid, signal.SIGKILL)
    started.wait(20)


def start(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start pytest with ``--cb-simulate`` as the leader of a new process group, and return the process of pytest."""
    return subprocess.Popen(
        [*PYTEST, "--cb-simulate", *arguments],
        cwd=folder,
        env=variables(**(environment or {})),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def ran(folder: Path) -> set[str]:
    """Return the ids of the cases that ran since the last call, and delete the file in which they are recorded."""
    names = set((folder / "ran").read_text(encoding="utf-8").split())
    (folder / "ran").unlink()
    return names


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the outcome of each test in the lines of a results file, by the id of the case."""
    return {line["test"].rpartition("::")[2].partition("[")[0]: line["outcome"] for line in lines if "test" in line}
