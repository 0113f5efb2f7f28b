"""``spyre-cb serve``: the reference engine over HTTP. Hands its arguments on; the server has the flags."""

import os
import sys
from collections.abc import Sequence

from harness.cli.arguments import Subparsers, add_command

_EXAMPLES = """\
  spyre-cb serve --port 0
  spyre-cb serve --help
"""


def add_to(subparsers: Subparsers) -> None:
    """For the list of commands only: ``hand_over`` takes place before anything is parsed."""
    add_command(subparsers, "serve", lambda _: 0, "serve the reference engine over HTTP, as OpenAI's API", _EXAMPLES)


def hand_over(argv: Sequence[str]) -> None:
    """Become the server. Never returns."""
    os.environ["SPYRE_CB_PROG"] = "spyre-cb serve"
    os.execv(sys.executable, [sys.executable, "-m", "engine.entrypoints.server", *argv])
