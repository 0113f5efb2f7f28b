"""Run the Jobs of deploy/kubernetes as local processes, with the commands and the environment of their pods.

A local process stands for a pod. Some are killed with ``kill -9`` while a test runs, and then started again as
Kubernetes does, according to ``backoffLimitPerIndex`` and ``podFailurePolicy``.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.helpers.kustomization import rendered
from tests.helpers.paths import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
SCRIPTS = KUBERNETES / "base" / "night" / "scripts"
PODS_AT_ONCE = 2
SPYRE_CB = "import sys; from harness.cli import main; sys.exit(main())"
KUBECTL = """\
#!/bin/sh
# get job NAME -o jsonpath=…: NAME has ended, and its uid is uid-NAME.
case "$*" in
*conditions*) echo "${CONDITION:-Complete}" ;;
*uid*) printf 'uid-%s' "$3" ;;
esac
"""
SLOW = """\
import time
from engine.core import EngineCore
step = EngineCore.step
def slow(self):
    time.sleep(0.01)
    return step(self)
EngineCore.step = slow
"""
"""The text of a conftest.py that slows down simulated tests, so that they can be killed while they run."""


@dataclass
class Cluster:
    """A folder with suites, in which the Jobs of a nightly run are run as local processes.

    ``parts`` is the number of parts (shards) of the tests. ``log`` has a pair for each pod that ended: its index in the
    Job, and its exit status as text, or ``killed``. If an index has failed finally, its last pair is followed by one
    with ``given up``.
    """

    folder: Path
    parts: int
    random: Random
    kill: float = 0.0
    """The probability that a pod is killed. After ``backoffLimitPerIndex`` pods of an index, no more are killed."""
    lost: float = 0.5
    """The probability that a kill is due to a lost node, and so does not count as a failure of the index."""
    isolation: str = "engine"
    log: list[tuple[int, str]] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def night(self, *, never: Sequence[int] = ()) -> int:
        """Run all parts except those whose index is in ``never``, then the merge Job. Return its exit status."""
        plans = [(index, Random(self.random.random())) for index in range(self.parts) if index not in never]
        with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
            list(pool.map(lambda plan: self.index(*plan), plans))
        return self.merge()

    def index(self, index: int, random: Random) -> None:
        """Run pods of an index of the Job one after the other, until one of them succeeds or the index has failed."""
        job = self.job()
        rules = job["spec"]["podFailurePolicy"]["rules"]
        final = next(rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailIndex")
        failures, limit = 0, job["spec"]["backoffLimitPerIndex"]
        while failures <= limit:
            # With one more kill, the index could fail, and the results would not be complete.
            kills = random.random() < self.kill and len([1 for i, _ in self.log if i == index]) < limit
            status = self.pod(index, random if kills else None)
            self.log.append((index, "killed" if status < 0 else str(status)))
            if status == 0 or status in final:
                return
            if status > 0 or random.random() >= self.lost:
                failures += 1
        self.log.append((index, "given up"))

    def pod(self, index: int, random: Random | None) -> int:
        """Run one pod of an index. Return its exit status, or a negative number if the pod was killed.

        With ``random``, the pod is killed while a test runs and at most three results are new, unless it ends before
        that.
        """
        file = self.results / "uid-spyre-cb-parts" / f"part-{index}.jsonl"
        environment = {"JOB_COMPLETION_INDEX": str(index)}
        process = subprocess.Popen(
            self.command(index),
            cwd=self.folder,
            env=self.environment(environment),
            stdout=(self.folder / f"log-{index}-{len(self.log)}").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until = results_in(file) + random.randrange(4) if random is not None else None
        while process.poll() is None:
            if until is not None and _is_running(file, until):
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002 if until is not None else 0.02)
        return process.wait(60)

    def command(self, index: int) -> list[str]:
        """Return the command of a pod for a local process, with local folders and with ``--simulate``."""
        [part] = self.job()["spec"]["template"]["spec"]["containers"]
        known = {"JOB_UID": "uid-spyre-cb-parts", "JOB_COMPLETION_INDEX": str(index)}
        words = [re.sub(r"\$\((\w+)\)", lambda match: known[match[1]], word) for word in part["args"]]
        words = [word.replace("/results/", f"{self.results}/") for word in words]
        words = [word for word in words if self.isolation != "none" or not word.startswith("--case-timeout")]
        return [sys.executable, "-c", SPYRE_CB, "run", "suites", *words, "--simulate", f"--isolation={self.isolation}"]

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        [part] = self.job()["spec"]["template"]["spec"]["containers"]
        its = {each["name"]: each["value"] for each in part["env"] if "value" in each}
        its = {name: value for name, value in its.items() if not value.startswith("/")}
        inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        inherited["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {**inherited, **its, "JOB_COMPLETIONS": str(self.parts), **more}

    def job(self) -> dict[str, Any]:
        return next(each for each in _manifests() if each["metadata"]["name"] == "spyre-cb-parts")

    def merge(self) -> int:
        """Run the scripts of the merge Job's containers in order, and return the exit status of the last script."""
        bin_, jobs = self.folder / "bin", self.folder / "jobs"
        for folder in (bin_, jobs):
            folder.mkdir(exist_ok=True)
        (bin_ / "kubectl").write_text(KUBECTL)
        (bin_ / "spyre-cb").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{SPYRE_CB}" "$@"\n')
        for name in ("kubectl", "spyre-cb"):
            (bin_ / name).chmod(0o755)
        environment = {
            **self.environment({}),
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
            **{"RESULTS": str(self.results), "JOBS": str(jobs), "JOB_UID": "uid-merge", "WAIT_SECONDS": "0.1"},
        }
        with (self.folder / "log-merge").open("wb") as log:
            for script in ("wait.sh", "merge.sh"):
                command = ["sh", str(SCRIPTS / script), "spyre-cb-parts"]
                status = subprocess.call(command, cwd=self.folder, env=environment, stdout=log, stderr=log, timeout=120)
        return status

    @property
    def report(self) -> Path:
        return self.results / "report-uid-merge"

    @property
    def merged(self) -> Path:
        return self.report / "spyre-cb-parts.jsonl"


_rendered: list[dict[str, Any]] = []


def _manifests() -> list[dict[str, Any]]:
    if not _rendered:
        _rendered.extend(rendered(KUBERNETES / "overlays" / "cpu"))
    return _rendered


def results_in(file: Path) -> int:
    """Return the number of tests that have a result in a results file, 0 if the file does not exist."""
    return _content(file).count(b'{"test": ')


def _is_running(file: Path, results: int) -> bool:
    """Return whether the results file has at least ``results`` results and says that a test is running."""
    content = _content(file)
    return content.count(b'{"test": ') >= results and b'{"running": ' in content.rpartition(b"\n{")[2] + content[-200:]


def _content(file: Path) -> bytes:
    # At its start, a run creates the file and removes it again, to see whether it can be written.
    with suppress(FileNotFoundError):
        return file.read_bytes()
    return b""


VOLATILE = {"seconds", "start", "began", "command", "spent"}


def alike(file: Path) -> list[Any]:
    """Return the lines of a results file, without the fields that differ from run to run: times and the command."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [{name: value for name, value in line.items() if name not in VOLATILE} for line in lines]


def waiting(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition()`` is true, for at most ``seconds``. Return whether it became true."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()
