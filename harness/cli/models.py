"""``spyre-cb models``: list the models that suites can name, or fetch one and print its path."""

import json
from argparse import Namespace
from dataclasses import asdict

from checkpoints import catalogue, resolve
from harness.cli.arguments import Subparsers, add_command

_EXAMPLES = """\
  spyre-cb models
  spyre-cb models fetch smollm2-135m
"""
_FETCH_EXAMPLES = """\
  spyre-cb models fetch tiny-granite
"""


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "models", run, "list the models that suites can name, or fetch one", _EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    actions = parser.add_subparsers(metavar="ACTION")
    about = "fetch a model if it is not on this machine, and print its path and digest"
    fetch_parser = add_command(actions, "fetch", fetch, about, _FETCH_EXAMPLES)
    what = "a name from the list, a folder, or an id on the Hugging Face hub, org/name"
    fetch_parser.add_argument("name", metavar="NAME", help=what)


def run(arguments: Namespace) -> int:
    """Print the list of models."""
    if arguments.json:
        print(json.dumps([asdict(entry) for entry in catalogue()], indent=1))
        return 0
    rows = [("name", "parameters", "here", "what it is"), *_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, parameters, here, what in rows:
        print(f"{name:<{widths[0]}}  {parameters:>{widths[1]}}  {here:<{widths[2]}}  {what}")
    return 0


def fetch(arguments: Namespace) -> int:
    """Fetch a model if necessary, and print its path and digest. Raises CheckpointError if it is not available."""
    checkpoint = resolve(arguments.name)
    print(f"path    {checkpoint.path}")
    print(f"digest  {checkpoint.digest}")
    return 0


def _rows() -> list[tuple[str, str, str, str]]:
    return [
        (entry.name, f"{entry.parameters:,}", "yes" if entry.present else "no", f"{entry.summary} [{entry.source}]")
        for entry in catalogue()
    ]
