"""``spyre-cb report``: write reports from the results files of one or more runs."""

from argparse import Namespace
from pathlib import Path

from harness.cli.arguments import CommandError, Subparsers, add_command, apart, named
from harness.report.reading import ResultsError, merged, read_run
from harness.report.writing import ReportError, Wanted, write_reports
from harness.utils.gc import gc_paused

_EXAMPLES = """\
  spyre-cb report shard-*.jsonl --html nightly.html --junit nightly.xml
  spyre-cb report tonight.jsonl --history yesterday.jsonl --html report.html
"""


def add_to(subparsers: Subparsers) -> None:
    about = "write reports about runs: a page, Allure, JUnit, Markdown"
    parser = add_command(subparsers, "report", run, about, _EXAMPLES)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results (pytest --cb-results FILE)")
    parser.add_argument("--history", nargs="+", type=Path, default=[], metavar="OLD", help="results of earlier runs")
    parser.add_argument("--html", type=named, metavar="PAGE", help="write a self-contained HTML page to this file")
    parser.add_argument("--allure", type=named, metavar="FOLDER", help="write Allure results to this folder")
    parser.add_argument("--junit", type=named, metavar="XML", help="write JUnit XML to this file")
    parser.add_argument("--markdown", type=named, metavar="MD", help="append a summary in Markdown to this file")


def run(arguments: Namespace) -> int:
    """Write the reports.

    Return exit status 1 if a results file is incomplete, because a missing test may have failed.
    """
    wanted = Wanted(arguments.html, arguments.allure, arguments.junit, arguments.markdown)
    if wanted == Wanted():
        raise CommandError("no report is requested; use --html, --allure, --junit or --markdown")
    apart([*arguments.files, *arguments.history], [wanted.html, wanted.allure, wanted.junit, wanted.markdown])
    try:
        with gc_paused():
            runs = [read_run(path) for path in arguments.files]
            earlier = [read_run(path) for path in arguments.history]
            for line in write_reports(wanted, merged(runs), earlier):
                print(line)
    except (ResultsError, ReportError) as error:
        raise CommandError(str(error)) from error
    incomplete = [run for run in runs if run.incomplete]
    for each in incomplete:
        print(f"{each.path}: {each.incomplete}")
    return 1 if incomplete else 0
