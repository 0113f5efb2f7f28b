"""``spyre-cb known-failures``: create or update the list of known failures from the results of a run."""

from argparse import Namespace
from pathlib import Path

from harness.cli.arguments import CommandError, Subparsers, add_command, existing, named
from harness.pytest_plugin.known_failures.writing import ResultsError, read_results, written
from harness.utils.files import write_text_whole

_EXAMPLES = """\
  spyre-cb known-failures results.jsonl
  spyre-cb known-failures results.jsonl --write suites/known-failures.yaml
"""


def add_to(subparsers: Subparsers) -> None:
    about = "write the failures of a run to a list of known failures"
    parser = add_command(subparsers, "known-failures", run, about, _EXAMPLES)
    parser.add_argument("results", type=existing, metavar="RESULTS", help="results (pytest --cb-results RESULTS)")
    parser.add_argument(
        "--write",
        type=named,
        metavar="FILE",
        help="update this list: keep the reasons, remove tests that pass, add tests that fail",
    )


def run(arguments: Namespace) -> int:
    """Print the list of known failures, or write it to the file given with ``--write``."""
    file: Path | None = arguments.write
    try:
        new = written(file, read_results(arguments.results))
    except ResultsError as error:
        raise CommandError(str(error)) from error
    if file is None:
        print(new.text, end="")
        return 0
    try:
        write_text_whole(file, new.text)
    except OSError as error:
        raise CommandError(f"{file}: cannot be written: {error.strerror or error}") from error
    print(f"{file}: {new.kept} kept, {new.removed} removed, {new.added} added")
    if new.added:
        print("now write a reason for each added entry: the link to an issue, and a sentence")
    return 0
