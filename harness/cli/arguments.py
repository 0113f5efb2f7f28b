"""Shared by the subcommands: a parser with one-sentence errors, and types of arguments."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from harness.drivers.registry import BUILT_IN, UNSTEPPED, driver_names, unknown

Subparsers = Any
"""The return type of ``add_subparsers``, which argparse does not export."""


class CommandError(Exception):
    """The command can't be executed. The message is one sentence for the user."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors, without the usage.

    Abbreviations are disabled: new options would break them.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_command(subparsers: Subparsers, name: str, run: Callable[..., int], about: str, examples: str) -> Parser:
    """Add a subcommand with its help and function."""
    epilog = f"examples:\n{examples}" if "\n" in examples.strip() else f"example:\n{examples}"
    parser: Parser = subparsers.add_parser(
        name, help=about, description=f"{about[:1].upper()}{about[1:]}.", epilog=epilog
    )
    parser.set_defaults(run=run)
    return parser


def add_selection(parser: Parser, what: str) -> None:
    """Add arguments that select suites and, by markers, ``what`` of them."""
    parser.add_argument(
        "paths", nargs="*", type=existing, metavar="PATH", help="suites, or folders of them (default: suites)"
    )
    parser.add_argument(
        "--marker", action="append", default=[], metavar="NAME", help=f"only {what} with this marker; may be repeated"
    )


def apart(inputs: Iterable[Path], outputs: Iterable[Path | None]) -> None:
    """Raise CommandError if an output would overwrite an input."""
    read = {os.path.realpath(path): path for path in inputs}
    for path in outputs:
        if path is not None and (same := read.get(os.path.realpath(path))) is not None:
            raise CommandError(f"{path}: would overwrite the input {same}; use another file")


def count(text: str) -> int:
    """Return a whole number from 0."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def stepped_driver(text: str) -> str:
    """Return the name of a driver whose engine can be stepped. Other packages are searched only for unknown names."""
    if (text not in BUILT_IN or text in UNSTEPPED) and text not in (known := driver_names(stepped=True)):
        raise argparse.ArgumentTypeError(unknown(text, known))
    return text


def named(text: str) -> Path:
    """Return a path to write to. An empty path, the current directory, is an error."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file or folder, not ''")
    return Path(text)


def existing(text: str) -> Path:
    """Return a path that exists."""
    path = Path(text)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {reason}") from error
    return path
