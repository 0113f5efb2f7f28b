"""Fixtures for tests of the built packages. They are made once in a run."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.spyre_cb.installed import Environment, NotToBeHadError, build, environment
from tests.spyre_cb.observing import RUNS, observed

GUESTS = (
    "allure-pytest==2.16.2",
    "hypothesis==6.170.15",
    "pytest-asyncio==1.5.0",
    "pytest-cov==7.1.0",
    "pytest-forked==1.7.5",
    "pytest-randomly==5.1.0",
    "pytest-selenium==4.1.0",
    "pytest-xdist==3.8.0",
    "syrupy==7.0.1",
)
"""The plugins of a team that installs this package next to them."""


@dataclass(frozen=True)
class Guest:
    """An environment with other plugins and this package's wheel.

    ``before`` and ``after`` are the observations of runs of foreign_project.py before and after the wheel was
    installed, by the name of the run.
    """

    environment: Environment
    sdist: Path
    wheel: Path
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """Make an environment with other plugins. Run foreign_project.py there before and after the wheel is installed.

    The environment is made once for all workers of a run. Tests are skipped if the other plugins cannot be installed.
    """
    folder = _of_all_workers(tmp_path_factory) / "guest"
    with FileLock(f"{folder}.lock"):
        written = folder / "made.json"
        if not written.is_file():
            folder.mkdir()
            written.write_text(json.dumps(_make(folder)), encoding="utf-8")
    made = json.loads(written.read_text(encoding="utf-8"))
    if reason := made.get("not to be had"):
        pytest.skip(reason)
    return Guest(Environment(folder / "venv"), Path(made["sdist"]), Path(made["wheel"]), made["before"], made["after"])


def _make(folder: Path) -> dict[str, object]:
    there = environment(folder / "venv")
    try:
        there.install(*GUESTS)
    except NotToBeHadError as error:
        return {"not to be had": str(error)}
    with ThreadPoolExecutor(1) as other:
        built = other.submit(build, folder)
        before = {name: observed(there, folder, *arguments.split()) for name, arguments in RUNS.items()}
        sdist, wheel = built.result()
    there.install(str(wheel))
    after = {name: observed(there, folder, *arguments.split()) for name, arguments in RUNS.items()}
    return {"sdist": str(sdist), "wheel": str(wheel), "before": before, "after": after}


def _of_all_workers(factory: pytest.TempPathFactory) -> Path:
    mine = factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
