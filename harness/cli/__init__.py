"""The command ``spyre-cb``, with one module for each subcommand.

Exit status: 0 success; 1 the command found problems, such as failed tests; 2 the arguments are invalid (one sentence on
stderr says why); 130 interrupted with Ctrl-C; 141 the reader of standard output closed the pipe.
"""

import os
import sys
from collections.abc import Sequence

from checkpoints import CheckpointError
from harness.cli import (
    cards,
    cases,
    compare,
    completion,
    init,
    known_failures,
    models,
    references,
    report,
    run,
    schema,
    search,
    serve,
    trace,
    versions,
)
from harness.cli.arguments import CommandError, Parser
from harness.suites.discovery import NoSuitesError
from harness.suites.loader import SuiteError
from harness.utils.environment import set_defaults

__all__ = ["command_parser", "main"]

INTERRUPTED = 130
CUT_OFF = 141
SUBCOMMANDS = (
    run,
    init,
    cases,
    trace,
    search,
    references,
    known_failures,
    compare,
    report,
    cards,
    schema,
    models,
    serve,
)

_EXAMPLES = """\
example:  spyre-cb run -m "cpu and cb" --html page.html
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status. ``argv`` defaults to the arguments of this process."""
    set_defaults()
    try:
        status = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # At exit Python flushes stdout again, which would print a second BrokenPipeError.
        _discard_output()
        return CUT_OFF
    except OSError as error:
        if error.filename is not None:
            raise
        _discard_output()
        print(f"spyre-cb: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    return status


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["serve"]:
        serve.hand_over(words[1:])
    if words[:1] == ["--version"]:
        return versions.show(words[1:])
    mine, for_pytest = run.apart(words)
    try:
        arguments = command_parser().parse_args(mine)
        arguments.for_pytest = for_pytest
        return int(arguments.run(arguments))
    except SystemExit as exit_:
        return int(exit_.code or 0)
    except (CommandError, CheckpointError, NoSuitesError, SuiteError) as error:
        print(f"spyre-cb: {error}", file=sys.stderr)
        return 2


def command_parser() -> Parser:
    """Return the parser of the command line, with all subcommands."""
    parser = Parser(prog="spyre-cb", description="Conformance suites for continuous batching.", epilog=_EXAMPLES)
    parser.add_argument("--version", action="store_true", help="versions of packages; add --json for use in a script")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in SUBCOMMANDS:
        command.add_to(subparsers)
    completion.add_to(subparsers, command_parser)
    return parser
