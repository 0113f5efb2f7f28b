"""Find the tests without a result, so that every report names them, and no reader assumes that they passed.

A test has no result if its run was not finished. If a run is divided into parts (``--cb-shard``), the tests of a part
whose results file is missing have no result either.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from harness.report.outcomes import Record, named
from harness.report.plan import Missing
from harness.report.reading import Recorded, ResultsError
from harness.report.same_run import difference

APART = "to report several runs, first merge the parts of each run with spyre-cb report … --results FILE"


def missing_tests(runs: Sequence[Recorded]) -> tuple[Missing, ...]:
    """Return the tests without a result: an entry for each run, or each part of a run, that lacks some.

    The runs with ``--cb-shard`` must be parts of the same run. Raises ResultsError if they are not.
    """
    parts = sorted((run for run in runs if run.header.get("shard")), key=lambda run: run.part)
    whole = [run for run in runs if not run.header.get("shard") and run.lacking]
    prefix = "{}: the run" if len(runs) > 1 else "the run"
    alone = [Missing(f"{prefix.format(run.path)} {_why(run)}", run.lacking) for run in whole]
    return (*alone, *_of_parts(parts)) if parts else tuple(alone)


def absent(run: Recorded) -> list[Record]:
    """Return a record with the outcome ``error`` for each test without a result.

    It is for report formats in which all information is about tests, such as JUnit.
    """
    return [
        {"test": test, "outcome": "error", "seconds": 0.0, "text": f"this test has no result: {each.sentence}"}
        for each in run.missing
        for test in each.tests or (f"{each.why}: tests",)
    ]


def _of_parts(runs: Sequence[Recorded]) -> Iterator[Missing]:
    """Yield an entry for each part of a run that has tests without a result.

    ``runs`` are parts of one run, sorted by the number of the part. Some parts may be missing.
    """
    of = _checked(runs)
    plan = next(filter(None, (run.plan for run in runs)), None)
    by_part = {run.part: run for run in runs}
    for number in range(1, of + 1):
        run, name = by_part.get(number), f"part {number} of {of}"
        tests = plan.parts[number - 1] if plan else None
        if run is None:
            if tests != ():
                yield Missing(f"{name} never reported", tests)
            continue
        lacking = None if tests is None else run.without_result(tests)
        if lacking or (lacking is None and run.footer is None):
            yield Missing(f"{name} ({run.path}) {_why(run)}", lacking)


def _why(run: Recorded) -> str:
    if run.footer is None:
        return f"was not finished{named(run.running)}"
    stopped = run.footer.get("stopped")
    return f"ended early ({stopped})" if stopped else "ended before its last test"


def _checked(runs: Sequence[Recorded]) -> int:
    """Return the number of parts into which the tests of a run are divided.

    Raises ResultsError if ``runs`` are not different parts of the same run.
    """
    first, of = runs[0], int(runs[0].header["shard"]["of"])
    first_planned = next((run for run in runs if run.plan), first)
    for before, run in pairwise(runs):
        its = int(run.header["shard"]["of"])
        what = f"one run has {of} parts, the other {its}" if its != of else difference(first.header, run.header)
        other = first if what else first_planned
        if what := what or difference(first_planned.header, run.header):
            raise ResultsError(f"{other.path} and {run.path} are parts of different runs: {what}; {APART}")
        if run.part == before.part:
            raise ResultsError(f"{before.path} and {run.path} are both part {run.part} of {of}; give one of them")
    return of
