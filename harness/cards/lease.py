"""Lease cards: lock a file for each card, so that no other process of the harness uses the card.

The operating system releases the locks of a process that is killed. A lease contains all cards that one engine needs.
The locks are advisory: a program that does not use them can still open a card. A card that a process has open is not
leased, even if the lock of the card is free. By default, each user has a lock folder of their own.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from harness.cards.discovery import CHOSEN, CLUSTER, RANK, Card, CardsError
from harness.cards.holders import holders

FOLDER = "SPYRE_CARDS_LOCKS"
WAIT = "SPYRE_CARDS_WAIT"
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.25
RANKS_CLEARED = 64


@dataclass(frozen=True)
class Holder:
    """The process that leases a card, and the start of the lease in seconds since the epoch.

    ``pid`` is 0 if the process has not yet written its id to the file next to the lock.
    """

    pid: int
    since: float


class Lease:
    """Cards that this process has locked, for one engine. ``release`` unlocks them for other processes."""

    def __init__(self, cards: Sequence[Card], locks: Sequence[FileLock]) -> None:
        self.cards = tuple(cards)
        self._locks = tuple(locks)

    @property
    def environ(self) -> dict[str, str | None]:
        """Return the environment variables with which an engine uses exactly the cards of this lease.

        A variable with the value None must be removed from the environment.
        """
        ranks: dict[str, str | None] = {f"{RANK}{number}": None for number in range(RANKS_CLEARED)}
        ranks |= {f"{RANK}{number}": card.bus_id for number, card in enumerate(self.cards)}
        return ranks | {
            "AIU_WORLD_SIZE": str(len(self.cards)),
            "SPYRE_DEVICES": ",".join(str(number) for number in range(len(self.cards))),
            "SPYRE_VISIBLE_DEVICES": None,
            CHOSEN: None,
            CLUSTER: ",".join(card.bus_id for card in self.cards),
        }

    def release(self) -> None:
        """Release the locks of all cards. Can be called more than once."""
        for lock in self._locks:
            lock.release()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()


def lock_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder with the lock files.

    The environment variable ``SPYRE_CARDS_LOCKS`` names the folder. If it is not set, the folder is in the user's
    runtime folder (``XDG_RUNTIME_DIR``) or in the folder for temporary files.
    """
    folder = environ.get(FOLDER)
    if folder:
        return Path(folder)
    runtime = environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "spyre-cb-cards") if runtime else Path(tempfile.gettempdir(), f"spyre-cb-cards-{os.getuid()}")


def lease(cards: Sequence[Card], count: int, *, folder: Path | None = None, wait: float | None = None) -> Lease:
    """Wait until ``count`` of the cards are free, lease them and return the lease.

    ``folder`` contains the lock files (default: ``lock_folder()``). ``wait`` is the maximum time to wait in seconds
    (default: the environment variable ``SPYRE_CARDS_WAIT``, or 120 if it is not set). Raises CardsError if ``cards``
    has fewer than ``count`` cards, or if fewer than ``count`` cards are free after that time.
    """
    if count > len(cards):
        raise CardsError(
            f"the engine needs {count} cards, but this run may use {len(cards)}: {', '.join(map(str, cards)) or 'none'}"
        )
    folder = folder or lock_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wait = _patience() if wait is None else wait
    give_up = time.monotonic() + wait
    while True:
        got = _free_ones(cards, count, folder)
        if got is not None:
            return got
        if time.monotonic() >= give_up:
            raise CardsError(
                f"{_needed(count)} did not become free in {wait:g} s: {_who_has_them(cards, folder)}; "
                f"to wait longer, set {WAIT} to a number of seconds"
            )
        time.sleep(LOOK_SECONDS)


def _free_ones(cards: Sequence[Card], count: int, folder: Path) -> Lease | None:
    """Lease ``count`` free cards. If fewer are free, lease none and return None.

    A process must not keep some cards while it waits for more: two processes that do this could deadlock.
    """
    mine: list[Card] = []
    locks: list[FileLock] = []
    for card in cards:
        lock = FileLock(_lock_file(folder, card), blocking=False)
        try:
            lock.acquire()
        except Timeout:
            continue
        if holders(card):
            lock.release()
            continue
        mine.append(card)
        locks.append(lock)
        if len(mine) == count:
            break
    found = Lease(mine, locks)
    if len(mine) < count:
        found.release()
        return None
    for card in mine:
        _note(folder, card).write_text(json.dumps({"pid": os.getpid(), "since": time.time()}), encoding="utf-8")
    return found


def leased_by(card: Card, folder: Path | None = None) -> Holder | None:
    """Return the process that leases the card. Return None if the card is not leased."""
    folder = folder or lock_folder()
    if not _lock_file(folder, card).exists():
        return None
    lock = FileLock(_lock_file(folder, card), blocking=False)
    with contextlib.suppress(Timeout), lock:
        return None
    try:
        note: dict[str, Any] = json.loads(_note(folder, card).read_text(encoding="utf-8"))
        return Holder(int(note["pid"]), float(note["since"]))
    except (OSError, ValueError, KeyError):
        return Holder(0, time.time())  # The lock is held, but its holder has not yet written the file with its pid.


def _lock_file(folder: Path, card: Card) -> Path:
    return folder / f"{card.bus_id}.lock"


def _note(folder: Path, card: Card) -> Path:
    return folder / f"{card.bus_id}.json"


def _patience() -> float:
    given = os.environ.get(WAIT)
    try:
        seconds = WAIT_SECONDS if given is None else float(given)
    except ValueError:
        seconds = nan
    if not 0 <= seconds < inf:
        raise CardsError(f"{WAIT}={given}: the value must be a number of seconds, 0 or more")
    return seconds


def _needed(count: int) -> str:
    return "a card" if count == 1 else f"{count} cards"


def _who_has_them(cards: Sequence[Card], folder: Path) -> str:
    users = []
    for card in cards:
        has, open_in = leased_by(card, folder), holders(card)
        if has is not None:
            users.append(f"{card} is leased by process {has.pid}")
        elif open_in:
            users.append(f"{card} is open in process {', '.join(map(str, open_in))}")
    return "; ".join(users) or "other processes used the cards until a moment ago"
