"""Which processes have a card open: a card can be held by one that is dying, or by somebody who knows no leases."""

import os
from pathlib import Path

from harness.cards.discovery import Card


def holders(card: Card) -> list[int]:
    """Ids of the processes that have the card open, as far as this user can see them."""
    if card.node is None:
        return []
    wanted = str(card.node.resolve())
    return sorted(int(process.name) for process in Path("/proc").glob("[0-9]*") if _has_open(process, wanted))


def _has_open(process: Path, wanted: str) -> bool:
    try:
        return any(os.readlink(fd) == wanted for fd in (process / "fd").iterdir())
    except OSError:  # it has ended, or is somebody else's
        return False
