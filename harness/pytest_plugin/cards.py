"""Cards under pytest: the process that runs an engine has a lease of its cards before the engine starts."""

import os
from collections.abc import Iterable, Sequence

import pytest

from harness.cards.discovery import Card, CardsError, find_cards
from harness.cards.holders import holders
from harness.cards.lease import Lease, lease, leased_by
from harness.pytest_plugin.items import CaseItem
from harness.utils.text import plural


def lease_for(items: Iterable[pytest.Item]) -> Lease | None:
    """Cards for the engines of these tests, one engine at a time; None where they need none, or there are none.

    Raises CardsError where there are too few or they do not become free.
    """
    sizes = [item.expanded.setup.tensor_parallel_size for item in items if isinstance(item, CaseItem) and on_card(item)]
    cards = find_cards() if sizes else ()
    if not cards:
        return None
    return lease(cards, max((size for size in sizes if size <= len(cards)), default=max(sizes)))


def on_card(item: CaseItem) -> bool:
    """Whether this test runs on a card, where there is one."""
    return item.get_closest_marker("skip") is None and item.on_card


class CardsHere:
    """A pytest plugin where cases run in the process that collects: one lease for all of them."""

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
        """After engines are closed."""
        if self._lease is not None:
            self._lease.release()


class CardsShown:
    """A pytest plugin on the controller: says what there is, before anything runs."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = cards

    def pytest_report_header(self) -> list[str]:
        if not self._cards:
            return []
        taken = [card for card in self._cards if leased_by(card) is not None or holders(card)]
        return [f"{plural(len(self._cards), 'card')}: {', '.join(map(str, self._cards))}; {len(taken)} in use"]


def cards_of_run() -> tuple[Card, ...]:
    """Raises pytest.UsageError for a choice of cards that are not there."""
    try:
        return find_cards()
    except CardsError as error:
        raise pytest.UsageError(str(error)) from error
