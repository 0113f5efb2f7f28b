"""``spyre-cb report``: write reports from the results files of one or more runs."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.cli.arguments import CommandError, Subparsers, add_command, apart, named
from harness.report.merging import merged
from harness.report.plan import Missing
from harness.report.reading import EmptyResultsError, Recorded, ResultsError, read_run
from harness.report.whole import shown_tests, verdict, write_results
from harness.report.writing import ReportError, Wanted, write_reports
from harness.utils.gc import gc_paused

_EXAMPLES = """\
  spyre-cb report shard-*.jsonl --html nightly.html --junit nightly.xml
  spyre-cb report part-*.jsonl --results night.jsonl --html night.html --verdict
  spyre-cb report tonight.jsonl --history yesterday.jsonl --html report.html
"""


def add_to(subparsers: Subparsers) -> None:
    about = "write reports about runs: a page, Allure, JUnit, Markdown"
    parser = add_command(subparsers, "report", run, about, _EXAMPLES)
    parser.add_argument("files", nargs="+", type=named, metavar="FILE", help="results (pytest --cb-results FILE)")
    parser.add_argument("--history", nargs="+", type=named, default=[], metavar="OLD", help="results of earlier runs")
    parser.add_argument("--html", type=named, metavar="PAGE", help="write a self-contained HTML page to this file")
    parser.add_argument("--allure", type=named, metavar="FOLDER", help="write Allure results to this folder")
    parser.add_argument("--junit", type=named, metavar="XML", help="write JUnit XML to this file")
    parser.add_argument("--markdown", type=named, metavar="MD", help="append a summary in Markdown to this file")
    parser.add_argument(
        "--results", type=named, metavar="JSONL", help="write all results to this file, sorted by the names of tests"
    )
    parser.add_argument("--verdict", action="store_true", help="exit with 1 also if a test failed")


def run(arguments: Namespace) -> int:
    """Write the reports.

    Return exit status 1 if results are missing, because a missing test may have failed. With ``--verdict``, also return
    1 if the results have a failure.
    """
    wanted = Wanted(arguments.html, arguments.allure, arguments.junit, arguments.markdown)
    if wanted == Wanted() and not arguments.results and not arguments.verdict:
        raise CommandError("no report is requested; use --html, --allure, --junit, --markdown, --results or --verdict")
    outputs = {f"--{name}": getattr(arguments, name) for name in ("html", "allure", "junit", "markdown", "results")}
    apart([*arguments.files, *arguments.history], outputs)
    try:
        with gc_paused():
            runs, empty = _read(arguments.files)
            earlier = [read_run(path) for path in arguments.history]
            whole = merged(runs)
            whole = replace(whole, missing=(*whole.missing, *empty))
            for line in write_reports(wanted, whole, earlier):
                print(line)
            if arguments.results:
                write_results(arguments.results, whole)
                print(f"results: {arguments.results}")
    except (ResultsError, ReportError) as error:
        raise CommandError(str(error)) from error
    return _status(arguments, runs, whole)


def _read(files: Sequence[Path]) -> tuple[list[Recorded], list[Missing]]:
    """Read results files. Return (the runs in them, a ``Missing`` for each file that is empty).

    A file is empty if its run ended before it wrote anything. Raises ResultsError if a file is not a results file, or
    if all files are empty.
    """
    runs, empty = [], []
    for path in files:
        try:
            runs.append(read_run(path))
        except EmptyResultsError as error:
            if len(files) == 1:
                raise
            empty.append(Missing(str(error), None))
    if not runs:
        names = ", ".join(map(str, files))
        raise ResultsError(f"all of these files are empty: {names}; run the tests again to get results")
    return runs, empty


def _status(arguments: Namespace, runs: Sequence[Recorded], whole: Recorded) -> int:
    incomplete = [run for run in runs if run.incomplete]
    for run in incomplete:
        print(f"{run.path}: {run.incomplete}")
    for each in whole.missing:
        print(f"{each.sentence}{shown_tests(each.tests or ())}")
    bad = verdict(whole) if arguments.verdict else ""
    if bad:
        print(bad)
    return 1 if incomplete or whole.missing or bad else 0
