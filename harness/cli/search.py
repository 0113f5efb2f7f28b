"""``spyre-cb search``: run random workloads, and compare each step with the scheduler model.

The scheduler model is an independent implementation of the scheduling rules.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import test_models
from harness.cli.arguments import CommandError, Subparsers, add_command, count, named, stepped_driver
from harness.drivers.base import Driver, UnavailableError
from harness.drivers.optional import scheduler_of
from harness.drivers.registry import DEFAULT, DriverOptions, make_driver
from harness.schedulers import SPECS
from harness.types import DEFAULT_SCHEDULER
from harness.utils.text import plural

if TYPE_CHECKING:
    from harness.search.run import Alone, Found, Progress, SearchResult

WORKLOADS = 1000
SEARCHED = tuple(name for name, scheduler in SPECS.items() if scheduler.search_tools)
"""Names of the schedulers for which there is a scheduler model. Static batching has none."""
FOLDER = Path("reports/found")

_EXAMPLES = """\
  spyre-cb search --scheduler token_budget --workloads 10000 --seed 7
  spyre-cb search --workloads 0 --model-laws 20 --write suites/scheduler_steps/found
  spyre-cb search --driver vllm --workloads 500 --all
"""


def add_to(subparsers: Subparsers) -> None:
    about = "run random workloads, and write a failing one as a suite"
    parser = add_command(subparsers, "search", run, about, _EXAMPLES)
    parser.add_argument(
        "--workloads",
        type=count,
        default=WORKLOADS,
        metavar="N",
        help=f"number of workloads to simulate (default: {WORKLOADS})",
    )
    parser.add_argument(
        "--driver", type=stepped_driver, default=DEFAULT, metavar="NAME", help=f"engine under test (default: {DEFAULT})"
    )
    parser.add_argument(
        "--all", action="store_true", help="run all workloads, also after a failure; shrink and count all that fail"
    )
    parser.add_argument("--seed", type=count, default=0, metavar="S", help="seed of the workloads (default: 0)")
    parser.add_argument(
        "--scheduler",
        choices=SEARCHED,
        metavar="NAME",
        help=f"{', '.join(SEARCHED)} "
        f"(default: the driver's scheduler, or {DEFAULT_SCHEDULER} if the driver supports several)",
    )
    parser.add_argument(
        "--model-laws",
        type=count,
        default=0,
        metavar="N",
        help="number of workloads to run with a model; each request must get the tokens it gets alone (default: 0)",
    )
    parser.add_argument(
        "--write", type=named, default=FOLDER, metavar="DIR", help=f"folder for failing workloads (default: {FOLDER})"
    )


def run(arguments: Namespace) -> int:
    """Run the workloads. Return exit status 1 if one of them fails, else 0.

    Raises CommandError if an option is wrong, if the driver can't be used, or if hypothesis is not installed.
    """
    if find_spec("hypothesis") is None:
        raise CommandError("search needs the package hypothesis: pip install hypothesis")
    if not arguments.workloads and not arguments.model_laws:
        raise CommandError("nothing to do: --workloads and --model-laws are both 0")
    _refuse_unwritable(arguments.write)
    look = _survey if arguments.all else _search
    budgets = (DriverOptions(simulate=True), arguments.workloads), (DriverOptions(), arguments.model_laws)
    for options, budget in budgets:
        try:
            driver = make_driver(arguments.driver, options) if budget else None
        except UnavailableError as error:
            raise CommandError(f"--driver {arguments.driver}: {error}") from error
        if driver and look(driver, budget, arguments.seed, _scheduler(driver, arguments.scheduler), arguments.write):
            return 1
    return 0


def _scheduler(driver: Driver, given: str | None) -> str:
    """Return the name of the scheduler to run the workloads with: ``given``, or if it is None the driver's scheduler.

    Raises CommandError if the driver runs only one scheduler, and this is not ``given``.
    """
    own = scheduler_of(driver)
    if given and given != own and hasattr(driver, "scheduler"):
        raise CommandError(f"--scheduler {given}: {driver.describe()} has only the scheduler {own}")
    return given or own


def _refuse_unwritable(folder: Path) -> None:
    """Raise CommandError if suites can't be written to ``folder``. This is checked before the search.

    The folder is not created.
    """
    there = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), folder)
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise CommandError(f"{folder}: results cannot be written: {there} is not a writable folder")


def _survey(driver: Driver, budget: int, seed: int, scheduler: str, folder: Path) -> bool:
    """Run ``budget`` workloads with one driver, without stopping at a failure. Return whether any workload failed.

    For each kind of failure, print how often it occurred, print the smallest workload that fails in this way, and write
    this workload to a suite file in ``folder``.
    """
    from harness.search.survey import survey

    print(f"engine under test: {driver.describe()}", flush=True)
    with _progress(budget) as progress:
        model = test_models()[0]
        result = survey(
            driver, budget, seed, model=model, scheduler=scheduler, progress=progress, shrinking=_print_shrinking
        )
    rate = f"{result.tried:,} workloads, {result.steps:,} steps in {result.seconds:.1f} s"
    print(f"{rate}: {len(result.found)} failed, in {plural(len(result.kinds), 'way')} (seed {seed})")
    _print_alone(result.alone)
    for kind, times in result.kinds.most_common():
        beyond = result.beyond_entry_points[kind]
        print(
            f"\n{times} times: {kind}\n"
            f"({beyond} of these workloads have a request that every entry point would refuse); the smallest one is:\n"
        )
        _print_failure(result.smallest[kind], driver, folder)
    return bool(result.found)


def _print_shrinking(number: int, count: int) -> None:
    """Print the progress of shrinking to stderr. Shrinking takes longer than the search."""
    if number == 1 or number % 10 == 0:
        print(f"shrinking failure {number} of {count}", file=sys.stderr, flush=True)


def _search(driver: Driver, budget: int, seed: int, scheduler: str, folder: Path) -> bool:
    """Run up to ``budget`` workloads with one driver, until one fails. Return whether a workload failed.

    If a workload fails, print the failure, and write the workload to a suite file in ``folder``.
    """
    from harness.search.run import search

    print(f"engine under test: {driver.describe()}", flush=True)
    with _progress(budget) as progress:
        result = search(driver, budget, seed, model=test_models()[0], scheduler=scheduler, progress=progress)
    if result.found is None:
        print(f"{_measured(result)}: no failure found (seed {seed})", flush=True)
        _print_alone(result.alone)
        return False
    print(f"{_measured(result)}: one failed (seed {seed})\n")
    _print_failure(result.found, driver, folder)
    return True


def _print_failure(found: "Found", driver: Driver, folder: Path) -> None:
    from harness.search.report import run_command, write_suite

    verdict = found.verdict
    rule = [f"rule: {verdict.rule}"] if verdict.rule else []
    print("\n".join([verdict.headline, *verdict.details, *rule]), flush=True)
    try:
        path = write_suite(folder, found)
    except OSError as error:
        raise CommandError(f"{folder}: the suite cannot be written: {error.strerror or error}") from error
    print(f"written to {path}; to see it fail:  {run_command(path, found, driver.name)}")


def _print_alone(alone: "Alone") -> None:
    """If a model ran, print how many requests got the same tokens in the batch as without other requests."""
    if alone.requests:
        same = f"{alone.requests:,} requests got the same tokens in the batch as alone"
        print(f"{same}, {alone.preempted:,} of them were preempted")


def _measured(result: "SearchResult") -> str:
    rate = result.tried / result.seconds
    return f"{result.tried:,} workloads, {result.steps:,} steps in {result.seconds:.1f} s ({rate:.0f} workloads/s)"


@contextmanager
def _progress(budget: int) -> Iterator["Progress | None"]:
    """Yield a progress bar on stderr if it is a terminal, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    rate = TextColumn("{task.fields[steps]:,} steps")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("workloads", total=budget, steps=0)

        def show(tried: int, steps: int) -> None:
            what = "workloads" if tried <= budget else "shrinking"
            bar.update(task, completed=min(tried, budget), steps=steps, description=what)

        yield show
