"""Run pytest in a subprocess on suites in a folder outside this repository, and texts of such suites."""

import os
import subprocess
import sys
from pathlib import Path

# Isolated engines in processes that are spawned, as on cards, instead of forked.
SPAWNED = "--cb-isolation=engine --cb-start-processes=spawn"

GOOD = """\
suite: mine
kind: scheduler_steps
markers: [cb]
cases:
  - id: five-lines
    requests: [{prompt: {random_tokens: 49}, max_tokens: 3}]
    expect:
      output: none
      steps:
        - [0,  0, [0], [],  [],  [],  0, 0]
        - [1, 64, [],  [0], [0], [],  2, 1]
        - [2, 65, [],  [0], [0], [],  2, 2]
        - [3, 66, [],  [],  [0], [0], 2, 2]
        - [4,  0, [],  [],  [],  [],  0, 0]
"""
WRONG = GOOD.replace("- [2, 65,", "- [2, 99,").replace("suite: mine", "suite: wrong")
GOLDEN = """\
suite: mine
kind: scheduler_steps
markers: [cb]
cases:
  - id: needs-a-table
    requests: [{prompt: {random_tokens: 49}, max_tokens: 3}]
    expect: {steps: golden, output: none}
"""


# One of the installed plugins takes a second at every start and is not needed here.
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis")


def variables(**environment: str) -> dict[str, str]:
    """Return the environment of this process with the given variables added.

    ``CI``, ``VLLM_SPYRE_TEST_MODEL_LIST`` and ``PYTEST_ADDOPTS`` are removed, unless they are given and not empty.
    """
    found = {**os.environ, "COLUMNS": "200", **environment}
    for name in ("CI", "VLLM_SPYRE_TEST_MODEL_LIST", "PYTEST_ADDOPTS"):
        if not environment.get(name):
            found.pop(name, None)
    return found


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in ``folder`` with the environment of ``variables``."""
    command, env = [*PYTEST, *arguments], variables(**environment)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=180)


def write(folder: Path, **suites: str) -> None:
    for name, text in suites.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def simulated(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in ``folder`` with ``--cb-simulate``: on the reference engine's scheduler, without a model."""
    return run(folder, "--cb-simulate", *arguments, **environment)
