"""Determine the isolation mode and the timeout of cases from pytest's options, and refuse impossible combinations."""

from argparse import Namespace
from typing import Literal

import pytest

from spyre_cb.options import CASE_SECONDS

Mode = Literal["case", "engine", "none"]


def mode_from(config: pytest.Config) -> Mode:
    """Return the isolation mode. Raises pytest.UsageError for options that can't be combined."""
    option = config.option
    forked, isolation = bool(getattr(option, "forked", False)), option.cb_isolation
    if forked and isolation not in (None, "case"):
        raise pytest.UsageError(
            f"--forked means --cb-isolation=case, so it can't be combined with --cb-isolation={isolation}"
        )
    mode: Mode = "case" if forked else isolation or "none"
    if mode != "none":
        for name, given in (("--cb-bless", option.cb_bless), ("--pdb", option.usepdb), ("--trace", option.trace)):
            if given:
                other = "--forked" if forked else f"--cb-isolation={mode}"
                raise pytest.UsageError(f"{name} can't be combined with {other}: leave out one of them")
    elif option.cb_case_timeout and not _has_workers(config):
        raise pytest.UsageError(
            "--cb-case-timeout needs --cb-isolation=engine or -n: a case is stopped by ending its process"
        )
    return mode


def case_seconds(option: Namespace, mode: Mode) -> float | None:
    """Return the timeout of a case in seconds, None if there is none."""
    if option.cb_case_timeout is not None:
        return option.cb_case_timeout or None
    return None if mode == "none" else CASE_SECONDS


def _has_workers(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or bool(getattr(config.option, "tx", None))
