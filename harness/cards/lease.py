"""Leases of cards: locks of the operating system, which kill -9 of their holder gives back.

A lease is of as many cards as one engine needs. The lock is advisory and this user's; a card that another program has
open counts as taken, too, and so does one whose last user has not let go of it yet.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Who has the lease of a card: a process, and since when (seconds of the epoch)."""

    pid: int
    since: float


class Lease:
    """Cards that are this process's until ``release``."""

    def __init__(self, cards: Sequence[Card], locks: Sequence[FileLock]) -> None:
        self.cards = tuple(cards)
        self._locks = tuple(locks)

    @property
    def environ(self) -> dict[str, str | None]:
        """What the runtime of an engine on these cards finds in its environment; None: not there."""
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
        """Again does no harm."""
        for lock in self._locks:
            lock.release()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.release()


def lock_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where locks are: this user's folder for what lasts as long as the machine runs."""
    said = environ.get(FOLDER)
    if said:
        return Path(said)
    runtime = environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "spyre-cb-cards") if runtime else Path(tempfile.gettempdir(), f"spyre-cb-cards-{os.getuid()}")


def lease(cards: Sequence[Card], count: int, *, folder: Path | None = None, wait: float | None = None) -> Lease:
    """``count`` of these cards as soon as they are free. Raises CardsError where that takes over ``wait`` seconds."""
    if count > len(cards):
        raise CardsError(
            f"{count} cards are needed, and there are {len(cards)}: {', '.join(map(str, cards)) or 'none'}"
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
            raise CardsError(f"{_needed(count)} did not become free in {wait:g} s: {_who_has_them(cards, folder)}")
        time.sleep(LOOK_SECONDS)


def _free_ones(cards: Sequence[Card], count: int, folder: Path) -> Lease | None:
    """All or none: two that each hold a part of what they need would wait for each other."""
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
    """Who has the lease of a card now; None where nobody has."""
    folder = folder or lock_folder()
    if not _lock_file(folder, card).exists():
        return None
    lock = FileLock(_lock_file(folder, card), blocking=False)
    with contextlib.suppress(Timeout), lock:
        return None
    try:
        said: dict[str, Any] = json.loads(_note(folder, card).read_text(encoding="utf-8"))
        return Holder(int(said["pid"]), float(said["since"]))
    except (OSError, ValueError, KeyError):
        return Holder(0, time.time())  # it has just got it, and has not said yet who it is


def _lock_file(folder: Path, card: Card) -> Path:
    return folder / f"{card.bus_id}.lock"


def _note(folder: Path, card: Card) -> Path:
    return folder / f"{card.bus_id}.json"


def _patience() -> float:
    said = os.environ.get(WAIT)
    try:
        return WAIT_SECONDS if said is None else float(said)
    except ValueError:
        raise CardsError(f"{WAIT}={said}: must be a number of seconds") from None


def _needed(count: int) -> str:
    return "a card" if count == 1 else f"{count} cards"


def _who_has_them(cards: Sequence[Card], folder: Path) -> str:
    told = []
    for card in cards:
        has, open_in = leased_by(card, folder), holders(card)
        if has is not None:
            told.append(f"{card} is leased by process {has.pid}")
        elif open_in:
            told.append(f"{card} is open in process {', '.join(map(str, open_in))}")
    return "; ".join(told) or "they came and went"
