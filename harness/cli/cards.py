"""``spyre-cb cards``: list the Spyre cards, and the processes that use them."""

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from harness.cards.discovery import Card, CardsError, find_cards
from harness.cards.holders import holders
from harness.cards.lease import leased_by
from harness.cli.arguments import CommandError, Subparsers, add_command

_EXAMPLES = """\
  spyre-cb cards
  SPYRE_CARDS=0,1 spyre-cb cards
"""


def add_to(subparsers: Subparsers) -> None:
    about = "list the Spyre cards, and the processes that use them"
    parser = add_command(subparsers, "cards", run, about, _EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of text")


def run(arguments: Namespace) -> int:
    """Print one line for each card: its index, its PCI address, and whether a process uses it."""
    try:
        cards = find_cards()
    except CardsError as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        print(json.dumps([_as_data(card) for card in cards], indent=1))
        return 0
    if not cards:
        print("this machine has no Spyre cards")
    for card in cards:
        print(f"{card.index}  {card.bus_id}  {_state(card)}")
    return 0


def _as_data(card: Card) -> dict[str, Any]:
    leased = leased_by(card)
    lease = None if leased is None else {"process": leased.pid, "since": leased.since}
    return {"index": card.index, "bus_id": card.bus_id, "lease": lease, "open_in": list(holders(card))}


def _state(card: Card) -> str:
    leased, open_in = leased_by(card), holders(card)
    if leased is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(leased.since))
        return f"leased by process {leased.pid} since {since}: {_command(leased.pid)}"
    if open_in:
        return f"open in process {', '.join(map(str, open_in))} without a lease: {_command(open_in[0])}"
    if card.node is not None:
        return "free"
    return "not leased; processes that have the card open can't be found, because the card has no file in /dev/vfio"


def _command(pid: int) -> str:
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "(the process has ended)"
    return " ".join(filter(None, words))[:80]
