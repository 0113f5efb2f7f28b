"""Command-line flags for the options of the chunked and the token-budget scheduler.

The server and the examples share these flags.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.config import OPTIONS, TOKEN_BUDGET_RULES


class _Flag(NamedTuple):
    metavar: str
    about: str


FLAGS: Mapping[str, _Flag] = {
    "chunk_size": _Flag("N", "prompt tokens per step, a multiple of 64"),
    "enable_prefix_caching": _Flag("yes|no", "reuse cached blocks of equal prompt prefixes"),
    "interleave": _Flag("yes|no", "run a decode between two chunks"),
    "long_output_priority": _Flag("yes|no", "at the batch x tkv limit, pause the requests with the fewest tokens"),
    "max_num_batched_tokens": _Flag("N", "maximum number of tokens per step"),
    "enable_chunked_prefill": _Flag("yes|no", "divide prompts among steps"),
    "long_prefill_token_threshold": _Flag("N|0", "maximum number of tokens of one request per step; 0: unlimited"),
    "rules": _Flag("VERSION", f"rules of vLLM {' or '.join(TOKEN_BUDGET_RULES)}"),
    "block_size": _Flag("N", "tokens per block of the cache, a multiple of 32"),
}
"""The flags, by the name of the field in Chunking or TokenBudget that each flag sets."""


def add_scheduler_flags(parser: argparse.ArgumentParser, *, in_help: bool) -> None:
    """Add the flags to ``parser``, each with default None. With ``in_help`` False, ``--help`` does not list them."""
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
    """Return the flags that were given on the command line, as keyword arguments of EngineConfig."""
    return {name: value for name in FLAGS if (value := getattr(given, name)) is not None}


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, not {text!r}")
    return text == "yes"


def positive(text: str) -> int:
    """Parse a positive integer for argparse. EngineConfig checks which integers a flag allows."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def not_negative(text: str) -> int:
    """Parse a non-negative integer for argparse."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)
