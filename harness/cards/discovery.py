"""Find Spyre cards, and select those that a run may use.

As in torch-spyre (``spyre_device_enum``), the PCI addresses of the cards are read from the first of these sources that
lists at least one card:

1. the environment variables ``AIU_WORLD_RANK_0``, ``AIU_WORLD_RANK_1``, …
2. the environment variable ``PCIDEVICE_IBM_COM_AIU_PF``
3. all PCI devices in ``/sys`` with IBM's vendor id and Spyre's device id

The environment variable ``SPYRE_CARDS`` selects some of these cards, each by its position in the list (from 0) or by
its PCI address. If it is not set, the run may use all of them.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

VENDOR = 0x1014
DEVICE = 0x06A7
RANK = "AIU_WORLD_RANK_"
CLUSTER = "PCIDEVICE_IBM_COM_AIU_PF"
CHOSEN = "SPYRE_CARDS"
ROOT = "SPYRE_CARDS_ROOT"
"""Name of an environment variable that tests set. Its value is the folder to search for cards in place of ``/``."""


class CardsError(ValueError):
    """The requested cards are not available. The message is one sentence for the user."""


@dataclass(frozen=True)
class Card:
    """A Spyre card.

    ``index`` is its position among all cards found, from 0. ``bus_id`` is its PCI address, such as ``0000:29:00.0``.
    ``node`` is its device file in /dev/vfio. ``node`` is None if the kernel has not assigned the card to VFIO, or if
    this container does not contain the device file.
    """

    index: int
    bus_id: str
    node: Path | None

    def __str__(self) -> str:
        return f"{self.index} ({self.bus_id})"


def root_of(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(ROOT) or "/")


def find_cards(environ: Mapping[str, str] = os.environ) -> tuple[Card, ...]:
    """Return the cards that this run may use.

    These are all cards of this machine or, if the environment variable ``SPYRE_CARDS`` is set, the cards that it names.
    Raises CardsError if the variable is set but names no card, or if it names a card that does not exist.
    """
    root = root_of(environ)
    found = [Card(index, bus_id, _node(root, bus_id)) for index, bus_id in enumerate(_bus_ids(root, environ))]
    chosen = environ.get(CHOSEN)
    return tuple(found) if chosen is None else _chosen(found, chosen)


def leased_cards(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the PCI addresses in ``AIU_WORLD_RANK_0``, ``AIU_WORLD_RANK_1``, …

    A run sets these environment variables to the cards that it has leased for this process.
    """
    return list(takewhile(bool, (environ.get(f"{RANK}{number}", "") for number in count())))


def _bus_ids(root: Path, environ: Mapping[str, str]) -> Iterable[str]:
    ranks = list(takewhile(bool, (environ.get(f"{RANK}{number}", "") for number in count())))
    given = ranks or [part.strip() for part in environ.get(CLUSTER, "").split(",")]
    if any(given):
        return dict.fromkeys(filter(None, given))
    devices = root / "sys/bus/pci/devices"
    return sorted(d.name for d in devices.iterdir() if _is_spyre(d)) if devices.is_dir() else []


def _is_spyre(device: Path) -> bool:
    try:
        numbers = [int((device / name).read_text(), 16) for name in ("vendor", "device")]
    except (OSError, ValueError):
        return False
    return numbers == [VENDOR, DEVICE]


def _node(root: Path, bus_id: str) -> Path | None:
    """Return the card's device file, ``/dev/vfio/<number of its IOMMU group>``, or None if the file does not exist."""
    group = root / "sys/bus/pci/devices" / bus_id / "iommu_group"
    if not group.exists():
        return None
    node = root / "dev/vfio" / group.resolve().name
    return node if node.exists() else None


def _chosen(found: list[Card], text: str) -> tuple[Card, ...]:
    by_name = {str(card.index): card for card in found} | {card.bus_id: card for card in found}
    names = [name for name in re.split(r"[\s,]+", text) if name]
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        there = ", ".join(map(str, found)) or "none"
        wrong = f"{unknown[0]!r} is not a card of this machine" if names else "the value names no card"
        raise CardsError(f"{CHOSEN}={text}: {wrong}; the cards of this machine are: {there}")
    return tuple(dict.fromkeys(by_name[name] for name in names))
