"""The verdict about merged runs, and the results file with all their results."""

import json
from collections.abc import Sequence
from pathlib import Path

from harness.report.merging import merged_footer, merged_header
from harness.report.outcomes import PROBLEMS, counts_of
from harness.report.reading import Recorded
from harness.report.writing import ReportError
from harness.utils.files import write_whole

MAX_SHOWN = 20


def verdict(run: Recorded) -> str:
    """Return why a run fails, in a few words; empty if it passes.

    Flaky tests fail a run if they failed it when it ran (``--cb-allow-flaky``).
    """
    counts = counts_of(run.results)
    bad = [f"{counts[outcome]} {outcome}" for outcome in PROBLEMS if counts.get(outcome)]
    status = int((run.footer or {}).get("exitstatus", 0))
    if status or counts.get("failed") or counts.get("error"):
        return f"the run fails: {', '.join(bad) or f'exit status {status} of pytest'}"
    return ""


def shown_tests(tests: Sequence[str]) -> str:
    """Return the first tests of a list as lines that follow a sentence."""
    more = [f"and {len(tests) - MAX_SHOWN} more"] if len(tests) > MAX_SHOWN else []
    return "".join(f"\n  {line}" for line in (*tests[:MAX_SHOWN], *more))


def write_results(path: Path, run: Recorded) -> None:
    """Write the results of a run as a results file, in the order of the tests' names. Raises ReportError.

    The file is the same from one run or from its parts, except for times and commands. If results are missing, its
    footer says so.
    """
    footer = merged_footer([run.footer] if run.footer else [], run.results)
    if run.footer is None:
        footer |= {"stopped": run.incomplete, "running": list(run.running), "exitstatus": 1}
    lines = [merged_header([run.header]), *sorted(run.results, key=lambda result: str(result["test"])), footer]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from error
