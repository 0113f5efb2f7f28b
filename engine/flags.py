"""Flags that the server and the scripts have in common: the options that only some schedulers have, and their kinds."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.config import OPTIONS, TOKEN_BUDGET_RULES


class _Flag(NamedTuple):
    metavar: str
    about: str


FLAGS: Mapping[str, _Flag] = {
    "chunk_size": _Flag("N", "tokens of a prompt in a step, a multiple of 64"),
    "enable_prefix_caching": _Flag("yes|no", "find the beginnings of prompts in the cache"),
    "interleave": _Flag("yes|no", "a decode between two chunks"),
    "long_output_priority": _Flag("yes|no", "at the volume limit, pause those with the fewest tokens"),
    "max_num_batched_tokens": _Flag("N", "tokens that a step may compute"),
    "enable_chunked_prefill": _Flag("yes|no", "divide a prompt among steps"),
    "long_prefill_token_threshold": _Flag("N|0", "most tokens of one request in a step; 0 for no threshold"),
    "rules": _Flag("VERSION", f"those of vLLM {' or '.join(TOKEN_BUDGET_RULES)}"),
    "block_size": _Flag("N", "tokens in a block of the cache, a multiple of 32"),
}
"""Names are those of Chunking and TokenBudget."""


def add_scheduler_flags(parser: argparse.ArgumentParser, *, in_help: bool) -> None:
    """``in_help``: whether ``--help`` lists them. What is not given is what EngineConfig has."""
    kinds: Mapping[str, Callable[[str], Any]] = {"N": positive, "N|0": not_negative, "yes|no": _yes, "VERSION": str}
    for name, flag in FLAGS.items():
        of = ", ".join(scheduler for scheduler, options in OPTIONS.items() if name in options.__annotations__)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kinds[flag.metavar],
            metavar=flag.metavar,
            help=f"{of}: {flag.about}" if in_help else argparse.SUPPRESS,
        )


def scheduler_options(given: argparse.Namespace) -> dict[str, Any]:
    """Those that were given, as EngineConfig takes them."""
    return {name: value for name in FLAGS if (value := getattr(given, name)) is not None}


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, not {text!r}")
    return text == "yes"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse. Whether it is a multiple of 64 is for EngineConfig to say."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)
