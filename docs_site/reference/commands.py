"""The page of commands: the help of ``spyre-cb`` and of each subcommand, and the options of pytest."""

import argparse
import os
from collections.abc import Iterator

from docs_site.markup import Page, code, escaped, table
from harness.cli import command_parser
from spyre_cb.options import OPTIONS

PATH = "reference/commands.md"
COLUMNS = "100"
"""The width of the help, in characters."""


def commands_page() -> Page:
    """Generate the page of commands and options."""
    parser = command_parser()
    about = "This page has the output of `--help` for each command, and all options for pytest."
    parts = ["# Commands", about, f"## spyre-cb\n\n{_help(parser)}"]
    for name, command in _subcommands(parser):
        parts.append(f"## spyre-cb {name}\n\n{_help(command)}")
        parts += [f"### spyre-cb {name} {inner}\n\n{_help(each)}" for inner, each in _subcommands(command)]
    parts.append(
        "## Options of pytest\n\n`spyre-cb run` has the same options without the prefix `cb-`. They have an effect in "
        "sessions with suites only ([Install](../install.md))."
    )
    groups = dict.fromkeys(option.group for option in OPTIONS)
    for group in groups:
        rows = [
            [
                code(f"{option.in_pytest}={option.metavar or 'NAME'}" if not option.flag else option.in_pytest),
                escaped(option.help),
            ]
            for option in OPTIONS
            if option.group == group
        ]
        parts.append(f"### {group.capitalize()}\n\n{table(['option', ''], rows)}")
    return Page(PATH, "\n\n".join(parts) + "\n")


def _help(parser: argparse.ArgumentParser) -> str:
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        return f"```text\n{parser.format_help().rstrip()}\n```"
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
