"""Compare the duration of whole commands between this checkout and an earlier one; both alternate on this machine.

    python benchmarks/whole_suite.py --before FOLDER [--only NAME …] [--repeat N] [--json FILE]

FOLDER is a checkout of the commit to compare with, after `make venv` in it; each checkout runs in its own .venv. The
script measures the wall time of each command and the CPU time of all its processes, and reports ratios of medians: the
earlier checkout's time divided by this checkout's. This checkout runs only the tests of suites that FOLDER has too, as
more cases take more time. Unit tests are not matched. A round takes an hour or more; ``--only`` selects commands.
"""

import ctypes
import os
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from measuring import Metric, parser_of, report
from real_plugin import CASES

ROOT = Path(__file__).resolve().parents[1]
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
IMPORTS = (sys.executable, "-c", "import torch, fms.models")
FIRST_EAGER = (sys.executable, *PYTEST, "-v", "--cb-isolation=engine", "suites/scheduler_steps")
SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Taken:
    """The seconds of one run: wall time, and CPU time of all its processes."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Command:
    """A command whose duration is compared between two checkouts, and the targets of the comparison.

    ``words`` returns the command for a checkout. ``at_least`` has the factors by which the ``wall`` time and the
    ``cpu`` time of the command must have decreased.
    """

    words: Callable[[Path], Sequence[str]]
    at_least: Mapping[str, float]


def made(target: str) -> Callable[[Path], Sequence[str]]:
    """Return a function that returns the command ``make TARGET`` for a checkout.

    The command uses the ``.venv`` of the checkout, which must exist.
    """

    def words(folder: Path) -> Sequence[str]:
        return ["make", target, "-o", ".venv/.installed", f"REPORT={folder / 'reports' / 'whole-suite.html'}"]

    return words


def tested(*words: str) -> Callable[[Path], Sequence[str]]:
    """Return a function that returns, for a checkout, the command that runs pytest with ``words`` in its ``.venv``."""
    return lambda folder: [str(folder / ".venv" / "bin" / "python"), *PYTEST, *words]


COMMANDS: Mapping[str, Command] = {
    "conformance": Command(made("conformance"), {"wall": 8, "cpu": 6}),
    "users": Command(tested("-svx", "-m", "spyre and cb", "--forked", "suites"), {"wall": 6}),
    "test": Command(made("test"), {"wall": 2.5}),
    "twelve": Command(tested("-q", *CASES), {}),
}
"""The commands by their names for ``--only``."""


def run(words: Sequence[str], checkout: Path, without: Collection[str] = ()) -> Taken:
    """Run a command in a checkout, without the tests whose ids begin with one of ``without``.

    Raises SystemExit with the last lines of output if the command fails.
    """
    before, began = _cpu(), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            words, cwd=checkout, env=environ(checkout, without), stdout=output, stderr=output, start_new_session=True
        )
        process.wait()
        wall = time.perf_counter() - began
        _wait_for_orphans()
        if process.returncode:
            output.seek(0)
            raise SystemExit("\n".join(output.read().decode(errors="replace").splitlines()[-20:]))
    return Taken(wall, _cpu() - before)


def first_eager(checkout: Path) -> float:
    """Run pytest in a checkout until a case on the eager backend has passed, and return the seconds until then."""
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


def environ(checkout: Path, without: Collection[str] = ()) -> dict[str, str]:
    """Return environment variables for a run in a checkout: its packages precede the installed ones.

    pytest leaves out the tests whose ids begin with one of ``without``.
    """
    return os.environ | {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTEST_ADDOPTS": shlex.join(f"--deselect={each}" for each in without),
    }


def tests_of(checkout: Path) -> list[str]:
    """Return the ids of all tests of the suites of a checkout, as ``file::case[configuration]``."""
    words = tested("--collect-only", "-q", "suites")(checkout)
    done = subprocess.run(words, cwd=checkout, env=environ(checkout), capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith("suites/") and "::" in line]


def beginnings_of_new(before: Collection[str], now: Collection[str]) -> Iterator[str]:
    """Yield beginnings of test ids, for pytest's ``--deselect``, that select the tests that are only in ``now``.

    If all tests of a file or of a case are new, one beginning selects all of them. Otherwise the beginnings would not
    fit into an environment variable.
    """
    known = {begin for each in before for begin in (each, *_parents(each))}
    seen = set()
    for each in now:
        if each not in known:
            begin = next(begin for begin in (*_parents(each), each) if begin not in known)
            if begin not in seen:
                seen.add(begin)
                yield begin


def _parents(test: str) -> tuple[str, str]:
    """Return the beginnings of a test id that select all tests of the same file, and all tests of the same case."""
    return f"{test.partition('::')[0]}::", f"{test.partition('[')[0]}["


def be_the_reaper() -> None:
    """Become the parent of orphaned subprocesses: their CPU time is counted only when their parent waits for them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans() -> None:
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(before: Path, repeat: int, only: Sequence[str]) -> list[Metric]:
    """Run each command in ``only`` alternately in the earlier checkout ``before`` and in this checkout.

    Return, for each command, the ratio of the two wall times and the ratio of the two CPU times.
    """
    taken: dict[str, list[tuple[Taken, Taken]]] = {name: [] for name in COMMANDS if name in only}
    new = [*beginnings_of_new(tests_of(before), tests_of(ROOT))]
    for _ in range(repeat):
        for name, rounds in taken.items():
            words = COMMANDS[name].words
            rounds.append((run(words(before), before), run(words(ROOT), ROOT, new)))
    return [metric for name, rounds in taken.items() for metric in _metrics(name, COMMANDS[name], rounds)]


def _metrics(name: str, command: Command, rounds: Sequence[tuple[Taken, Taken]]) -> list[Metric]:
    metrics = []
    for kind in ("wall", "cpu"):
        was, now = (statistics.median(getattr(taken, kind) for taken in side) for side in zip(*rounds, strict=True))
        base = f"{was:.1f} s to {now:.1f} s"
        metrics.append(
            Metric(f"{name}: {kind} time, times less", was / now, " ×", at_least=command.at_least.get(kind), base=base)
        )
    return metrics


def first_verdict(repeat: int) -> Metric:
    imports, verdicts = [], []
    for _ in range(repeat):
        imports.append(run(IMPORTS, ROOT).wall)
        verdicts.append(first_eager(ROOT))
    base, took = statistics.median(imports), statistics.median(verdicts)
    return Metric(
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
    if set(arguments.only) != {"first"} and not (arguments.before and (arguments.before / ".venv").is_dir()):
        raise SystemExit(
            "whole_suite.py: --before FOLDER must be a checkout of the commit to compare with, after `make venv`"
        )
    be_the_reaper()
    metrics = []
    if "first" in arguments.only:
        metrics.append(first_verdict(arguments.repeat))
    if arguments.before:
        metrics += compared(arguments.before.resolve(), arguments.repeat, arguments.only)
    report("Duration of whole commands, before and now", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
