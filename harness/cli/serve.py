"""``spyre-cb serve``: start the HTTP server of the reference engine, with all arguments passed on to it."""

import os
import sys
from collections.abc import Sequence

from harness.cli.arguments import Subparsers, add_command

_EXAMPLES = """\
  spyre-cb serve --port 0
  spyre-cb serve --help
"""


def add_to(subparsers: Subparsers) -> None:
    """Add the subcommand ``serve`` to the help text. ``hand_over`` runs it, before arguments are parsed."""
    about = "serve the reference engine over HTTP, with OpenAI's API"
    add_command(subparsers, "serve", lambda _: 0, about, _EXAMPLES)


def hand_over(argv: Sequence[str]) -> None:
    """Replace this process by the server, with the arguments ``argv``. Does not return."""
    os.environ["SPYRE_CB_PROG"] = "spyre-cb serve"
    os.execv(sys.executable, [sys.executable, "-m", "engine.entrypoints.server", *argv])
