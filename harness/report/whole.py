"""Decide whether a run passes, and write its results file. The run may be merged from several runs (merging.py)."""

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
    """Return a sentence that says why a run fails, "" if the run passes.

    Flaky tests count as failures unless the run had the option ``--cb-allow-flaky``.
    """
    counts = counts_of(run.results)
    bad = [f"{counts[outcome]} {outcome}" for outcome in PROBLEMS if counts.get(outcome)]
    status = int((run.footer or {}).get("exitstatus", 0))
    if (status and not run.missing) or counts.get("failed") or counts.get("error"):
        return f"the run fails: {', '.join(bad) or f'exit status {status} of pytest'}"
    return ""


def shown_tests(tests: Sequence[str]) -> str:
    """Return the names of at most MAX_SHOWN tests, each on an indented line, to append to a sentence.

    If there are more tests, a last line says how many.
    """
    more = [f"and {len(tests) - MAX_SHOWN} more"] if len(tests) > MAX_SHOWN else []
    return "".join(f"\n  {line}" for line in (*tests[:MAX_SHOWN], *more))


def write_results(path: Path, run: Recorded) -> None:
    """Write the results of a run to a results file, sorted by the names of the tests.

    Apart from times and commands, a run that was divided into parts and then merged gives the same file as a run that
    was not divided. If results are missing, the footer says so. Raises ReportError if the file can't be written.
    """
    footer = merged_footer([run.footer] if run.footer else [], run.results)
    missing = "; ".join(each.sentence for each in run.missing) or ("" if run.footer else run.incomplete)
    if missing:
        status = max(1, int(footer["exitstatus"]))
        footer |= {"stopped": missing, "running": list(run.running), "exitstatus": status}
    lines = [merged_header([run.header]), *sorted(run.results, key=lambda result: str(result["test"])), footer]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from error
