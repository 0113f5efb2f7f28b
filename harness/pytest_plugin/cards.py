"""Lease Spyre cards for the tests of a run, so that no other process uses them (``harness/cards/lease.py``).

A process leases the cards of its engine before the engine starts.
"""

import os
from collections.abc import Iterable, Sequence

import pytest

from harness.cards.discovery import Card, CardsError, find_cards
from harness.cards.holders import holders
from harness.cards.lease import Lease, lease, leased_by
from harness.pytest_plugin.items import CaseItem
from harness.utils.text import plural


def lease_for(items: Iterable[pytest.Item]) -> Lease | None:
    """Lease the cards for the tests ``items``. Return None if no test needs a card, or if this run has no cards.

    One lease is enough for all engines, because the engines run one at a time. The number of leased cards is that of
    the largest engine for which this run has enough cards. Raises CardsError if there are not enough cards for any of
    the engines, or if the cards do not become free in time.
    """
    sizes = [item.expanded.setup.tensor_parallel_size for item in items if isinstance(item, CaseItem) and on_card(item)]
    cards = find_cards() if sizes else ()
    if not cards:
        return None
    return lease(cards, max((size for size in sizes if size <= len(cards)), default=max(sizes)))


def on_card(item: CaseItem) -> bool:
    """Return whether this test runs on a Spyre card."""
    return item.get_closest_marker("skip") is None and item.on_card


class CardsHere:
    """A pytest plugin for runs without ``--cb-isolation``: leases cards for all tests of this process in one lease."""

    def __init__(self) -> None:
        self._lease: Lease | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._lease is not None or not isinstance(item, CaseItem) or not on_card(item):
            return
        try:
            self._lease = lease_for(item.session.items)
        except CardsError as error:
            pytest.fail(str(error), pytrace=False)
        for name, value in self._lease.environ.items() if self._lease else ():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Release the cards, after another hook has closed the engines."""
        if self._lease is not None:
            self._lease.release()


class CardsShown:
    """A pytest plugin in the main process (with xdist, the controller): adds a line to the header of pytest's output.

    The line lists the Spyre cards that this run may use, and says how many of them are in use.
    """

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = cards

    def pytest_report_header(self) -> list[str]:
        if not self._cards:
            return []
        taken = [card for card in self._cards if leased_by(card) is not None or holders(card)]
        return [f"{plural(len(self._cards), 'card')}: {', '.join(map(str, self._cards))}; {len(taken)} in use"]


def cards_of_run() -> tuple[Card, ...]:
    """Return the cards that this run may use. Raises pytest.UsageError if the value of SPYRE_CARDS is wrong."""
    try:
        return find_cards()
    except CardsError as error:
        raise pytest.UsageError(str(error)) from error
