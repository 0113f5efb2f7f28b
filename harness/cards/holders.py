"""Find the processes that have a card open.

A card can be open without a lease: in a process that is still exiting, or in a program that does not lease cards.
"""

import os
from pathlib import Path

from harness.cards.discovery import Card


def holders(card: Card) -> list[int]:
    """Return the ids of the processes that have the card open. Processes of other users are not found."""
    if card.node is None:
        return []
    wanted = str(card.node.resolve())
    return sorted(int(process.name) for process in Path("/proc").glob("[0-9]*") if _has_open(process, wanted))


def _has_open(process: Path, wanted: str) -> bool:
    try:
        return any(os.readlink(fd) == wanted for fd in (process / "fd").iterdir())
    except OSError:  # the process has ended, or belongs to another user
        return False
