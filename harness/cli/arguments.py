"""The argument parser that all subcommands use, functions to add common arguments, and types of arguments."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from harness.drivers.registry import BUILT_IN, UNSTEPPED, driver_names, unknown
from harness.suites.shipped import found
from harness.utils.paths import written_twice

Subparsers = Any
"""The type of the object that ``ArgumentParser.add_subparsers`` returns. argparse does not export this type."""


class CommandError(Exception):
    """Raised if a command can't be executed. The command prints the message, one sentence, and exits with status 2."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line, without the usage text.

    Options can't be abbreviated, because a new option could make an abbreviation ambiguous.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_command(subparsers: Subparsers, name: str, run: Callable[..., int], about: str, examples: str) -> Parser:
    """Add the subcommand ``name``. ``run`` executes it, and returns the exit status.

    ``about`` is the help text of the subcommand in one line. ``examples`` are shown at the end of its help page.
    """
    epilog = f"examples:\n{examples}" if "\n" in examples.strip() else f"example:\n{examples}"
    parser: Parser = subparsers.add_parser(
        name, help=about, description=f"{about[:1].upper()}{about[1:]}.", epilog=epilog
    )
    parser.set_defaults(run=run)
    return parser


def add_selection(parser: Parser, what: str) -> None:
    """Add the argument PATH, which selects suites, and the option ``--marker``, which selects by marker.

    ``what`` is the word for the help text of ``--marker`` that says what is selected: ``cases`` or ``tests``.
    """
    parser.add_argument(
        "paths",
        nargs="*",
        type=existing_suite,
        metavar="PATH",
        help="suite files, or folders with suites (default: suites)",
    )
    parser.add_argument(
        "--marker", action="append", default=[], metavar="NAME", help=f"only {what} with this marker; may be repeated"
    )


def apart(inputs: Iterable[Path], outputs: Mapping[str, Path | None]) -> None:
    """Raise CommandError if an output file is also an input file, or is written twice.

    ``outputs`` has the path of each option, None if the option is not given.
    """
    if twice := written_twice(outputs.items()):
        raise CommandError(twice)
    read = {os.path.realpath(path): path for path in inputs}
    for path in outputs.values():
        if path is not None and (same := read.get(os.path.realpath(path))) is not None:
            raise CommandError(f"{path}: this output would overwrite the input {same}; name another file")


def count(text: str) -> int:
    """Convert an argument to an int of at least 0."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def stepped_driver(text: str) -> str:
    """Check that an argument is the name of a driver whose engine can be run step by step, and return the name.

    Other packages are searched for drivers only if no driver of this package has the name.
    """
    if (text not in BUILT_IN or text in UNSTEPPED) and text not in (known := driver_names(stepped=True)):
        raise argparse.ArgumentTypeError(unknown(text, known))
    return text


def named(text: str) -> Path:
    """Convert an argument to the path of a file or folder. The empty string is an error."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file or folder, not ''")
    return Path(text)


def existing(text: str) -> Path:
    """Convert an argument to the path of an input, which must exist."""
    return _readable(Path(text), text)


def existing_suite(text: str) -> Path:
    """Convert an argument to the path of a suite or of a folder with suites.

    If the path does not exist, it is looked up among the suites of this package.
    """
    return _readable(found(Path(text)), text)


def _readable(path: Path, text: str) -> Path:
    named(text)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {reason}") from error
    return path
