"""``spyre-cb schema``: print the JSON Schema of suite files, for editors."""

from argparse import Namespace

from harness.cli.arguments import Subparsers, add_command
from harness.suites.json_schema import schema_text

_EXAMPLES = """\
  spyre-cb schema > suite.schema.json
"""


def add_to(subparsers: Subparsers) -> None:
    add_command(subparsers, "schema", run, "print the JSON Schema of suite files", _EXAMPLES)


def run(_: Namespace) -> int:
    """Print the JSON Schema."""
    print(schema_text(), end="")
    return 0
