"""What ``--isolation`` and its neighbours ask for, and what of it makes no sense."""

import argparse
from argparse import Namespace
from typing import Literal

import pytest

Mode = Literal["case", "engine", "none"]
MODES: tuple[Mode, ...] = ("case", "engine", "none")
CASE_SECONDS = 300.0
"""What a case may take where nobody says: a hundred times what the slowest one on the built-in model takes."""


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--isolation",
        choices=MODES,
        help="run each case in a process of its own (the same as --forked), all cases of one engine in one process, "
        "or everything in this one (the default)",
    )
    group.addoption(
        "--start-processes",
        choices=("fork", "spawn"),
        default="fork",
        help="how the processes of --isolation start: forked from one that has imported everything (the default, where "
        "that can be), or each anew",
    )
    group.addoption(
        "--case-timeout",
        type=seconds,
        metavar="SECONDS",
        help=f"a case that takes longer is one failed case, and the run goes on (default {CASE_SECONDS:.0f}; with "
        "--isolation=none no limit, and only with -n); 0: no limit",
    )


def seconds(text: str) -> float:
    """A number of seconds from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds of at least 0, not {text!r}")
    return value


def mode_from(config: pytest.Config) -> Mode:
    """Raises pytest.UsageError for what cannot go together."""
    option = config.option
    forked, said = bool(getattr(option, "forked", False)), option.isolation
    if forked and said not in (None, "case"):
        raise pytest.UsageError(f"--forked is --isolation=case: it cannot go with --isolation={said}")
    mode: Mode = "case" if forked else said or "none"
    if mode != "none":
        for name, given in (("--bless", option.bless), ("--pdb", option.usepdb), ("--trace", option.trace)):
            if given:
                raise pytest.UsageError(f"{name}: not together with {'--forked' if forked else f'--isolation={mode}'}")
    elif option.case_timeout and not _has_workers(config):
        raise pytest.UsageError("--case-timeout: a case can only be ended with its process: say --isolation=engine")
    return mode


def case_seconds(option: Namespace, mode: Mode) -> float | None:
    """What one case may take; None where there is no limit."""
    if option.case_timeout is not None:
        return option.case_timeout or None
    return None if mode == "none" else CASE_SECONDS


def _has_workers(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or bool(getattr(config.option, "tx", None))
