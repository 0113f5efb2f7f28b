"""Flags that the server and the scripts have in common: the options of ``--scheduler chunked``, and their kinds."""

import argparse
from typing import Any

FLAGS = {
    "chunk_size": ("N", "tokens of a prompt in a step, a multiple of 64"),
    "enable_prefix_caching": ("yes|no", "find the beginnings of prompts in the cache"),
    "interleave": ("yes|no", "a decode between two chunks"),
    "long_output_priority": ("yes|no", "at the batch x tkv limit, pause those with the fewest tokens"),
}


def add_chunking_flags(parser: argparse.ArgumentParser, *, in_help: bool) -> None:
    """``in_help``: whether ``--help`` lists them. What is not said is what EngineConfig has."""
    for name, (metavar, about) in FLAGS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=positive if metavar == "N" else _yes,
            metavar=metavar,
            help=f"chunked: {about}" if in_help else argparse.SUPPRESS,
        )


def chunking_said(said: argparse.Namespace) -> dict[str, Any]:
    """Those that were said, as EngineConfig takes them."""
    return {name: value for name in FLAGS if (value := getattr(said, name)) is not None}


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, not {text!r}")
    return text == "yes"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse. Whether it is a multiple of 64 is for EngineConfig to say."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)
