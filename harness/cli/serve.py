"""``spyre-cb serve``: start the reference engine's server. All arguments are passed on to it."""

import os
import sys
from collections.abc import Sequence

from harness.cli.arguments import Subparsers, add_command

_EXAMPLES = """\
  spyre-cb serve --port 0
  spyre-cb serve --help
"""


def add_to(subparsers: Subparsers) -> None:
    """Add the command to the list. ``hand_over`` is called before arguments are parsed."""
    add_command(subparsers, "serve", lambda _: 0, "serve the reference engine over HTTP, as OpenAI's API", _EXAMPLES)


def hand_over(argv: Sequence[str]) -> None:
    """Run the server in this process. Does not return."""
    os.environ["SPYRE_CB_PROG"] = "spyre-cb serve"
    os.execv(sys.executable, [sys.executable, "-m", "engine.entrypoints.server", *argv])
