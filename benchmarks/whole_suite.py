"""What a person waits for, of this checkout and of an earlier one, in turns on the same machine.

    python benchmarks/whole_suite.py --before FOLDER [--only NAME …] [--repeat N] [--json FILE]

FOLDER is a checkout of the commit to compare with; both run in the environment of this Python. Of each command the wall
time and the CPU time of all its processes are measured; the ratios of their medians count. An hour and more a round:
`--only` chooses what is measured.
"""

import ctypes
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from measuring import Figure, parser_of, report
from real_plugin import CASES

ROOT = Path(__file__).resolve().parents[1]
VENV = Path(sys.prefix)
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
IMPORTS = (sys.executable, "-c", "import torch, fms.models")
FIRST_EAGER = (*PYTEST, "-v", "--cb-isolation=engine", "suites/scheduler_steps")
SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Taken:
    """Seconds of one run: on the clock, and of all its processes together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Command:
    """What is measured, and what is wanted of it: how many times less than before, of ``wall`` and ``cpu``."""

    words: Callable[[Path], Sequence[str]]
    at_least: Mapping[str, float]


def made(target: str) -> Callable[[Path], Sequence[str]]:
    """A target of the checkout's own Makefile, whose environment is taken to be there."""

    def words(folder: Path) -> Sequence[str]:
        page = folder / "reports" / "whole-suite.html"
        there = ["-o", f"{VENV}/.installed", f"VENV={VENV}", f"REPORT={page}"]
        return ["make", target, *there]

    return words


COMMANDS: Mapping[str, Command] = {
    "conformance": Command(made("conformance"), {"wall": 8, "cpu": 6}),
    "users": Command(lambda _: [*PYTEST, "-svx", "-m", "spyre and cb", "--forked", "suites"], {"wall": 6}),
    "test": Command(made("test"), {"wall": 2.5}),
    "twelve": Command(lambda _: [*PYTEST, "-q", *CASES], {}),
}
"""By the name that ``--only`` takes."""


def run(words: Sequence[str], checkout: Path) -> Taken:
    """SystemExit with the last lines where it fails."""
    before, began = _cpu(), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            words, cwd=checkout, env=environ(checkout), stdout=output, stderr=output, start_new_session=True
        )
        process.wait()
        wall = time.perf_counter() - began
        _wait_for_orphans()
        if process.returncode:
            output.seek(0)
            raise SystemExit("\n".join(output.read().decode(errors="replace").splitlines()[-20:]))
    return Taken(wall, _cpu() - before)


def first_eager(checkout: Path) -> float:
    """Seconds until the first verdict on the eager backend is there; then the run is ended."""
    began = time.perf_counter()
    process = subprocess.Popen(
        FIRST_EAGER, cwd=checkout, env=environ(checkout), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "eager" in line and "PASSED" in line:
            break
    else:
        raise SystemExit("no eager case passed")
    seconds = time.perf_counter() - began
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    _wait_for_orphans()
    return seconds


def environ(checkout: Path) -> dict[str, str]:
    """The checkout's own packages before those that are installed."""
    return os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def be_the_reaper() -> None:
    """CPU time of processes counts once they are waited for: those whose parent ended come to this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans() -> None:
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(before: Path, repeat: int, only: Sequence[str]) -> list[Figure]:
    """Each command by turns, round after round: before, now, before, now."""
    taken: dict[str, list[tuple[Taken, Taken]]] = {name: [] for name in COMMANDS if name in only}
    for _ in range(repeat):
        for name, rounds in taken.items():
            words = COMMANDS[name].words
            rounds.append((run(words(before), before), run(words(ROOT), ROOT)))
    return [figure for name, rounds in taken.items() for figure in _figures(name, COMMANDS[name], rounds)]


def _figures(name: str, command: Command, rounds: Sequence[tuple[Taken, Taken]]) -> list[Figure]:
    figures = []
    for kind in ("wall", "cpu"):
        was, now = (statistics.median(getattr(taken, kind) for taken in side) for side in zip(*rounds, strict=True))
        base = f"{was:.1f} s to {now:.1f} s"
        figures.append(
            Figure(f"{name}: {kind} time, times less", was / now, " ×", at_least=command.at_least.get(kind), base=base)
        )
    return figures


def first_verdict(repeat: int) -> Figure:
    imports, verdicts = [], []
    for _ in range(repeat):
        imports.append(run(IMPORTS, ROOT).wall)
        verdicts.append(first_eager(ROOT))
    base, took = statistics.median(imports), statistics.median(verdicts)
    return Figure(
        "first eager verdict to `import torch, fms.models`",
        took / base,
        " ×",
        at_most=4,
        base=f"{took:.1f} s to {base:.1f} s",
    )


def main() -> None:
    began = time.perf_counter()
    parser = parser_of(__doc__, 3)
    names = [*COMMANDS, "first"]
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout of the commit to compare with")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to measure (default: all)")
    arguments = parser.parse_args()
    if set(arguments.only) != {"first"} and not (arguments.before and (arguments.before / "Makefile").is_file()):
        raise SystemExit("whole_suite.py: --before FOLDER must be a checkout of the commit to compare with")
    be_the_reaper()
    figures = []
    if "first" in arguments.only:
        figures.append(first_verdict(arguments.repeat))
    if arguments.before:
        figures += compared(arguments.before.resolve(), arguments.repeat, arguments.only)
    report("What a person waits for, before and now", figures, arguments.json, began=began)


if __name__ == "__main__":
    main()
