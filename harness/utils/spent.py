"""Where the time of a run is spent: counters that are sent along with the next result of this process.

Counters that have not been sent are inherited by the next fork, which sends them. This also covers processes that only
fork and send no results.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Literal

from harness.utils.text import plural

Name = Literal[
    "imports", "engines", "opening", "traced", "tracing", "servers", "serving", "steps", "stepping", "behaviour"
]
"""Plural nouns are counts. ``imports``, ``behaviour`` (cases of that kind) and names in -ing are seconds."""

_spent: dict[str, float] = defaultdict(float)


def add(name: Name, amount: float) -> None:
    _spent[name] += amount


@contextmanager
def timed(name: Name) -> Generator[None, None, None]:
    """Add the seconds that the block takes, also if it raises."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add(name, time.perf_counter() - began)


def take() -> dict[str, float]:
    """Return the counters since the last call, and reset them."""
    taken = {name: round(amount, 4) for name, amount in _spent.items()}
    _spent.clear()
    return taken


def summary(spent: Mapping[str, float]) -> str:
    """Return one line with the totals of all processes, empty if nothing was counted."""

    def seconds(name: Name) -> str:
        return f"{spent.get(name, 0.0):.1f} s"

    def count(name: Name, one: str) -> str:
        return plural(int(spent.get(name, 0)), one)

    parts = [
        f"imports {seconds('imports')}" if spent.get("imports") else "",
        f"{count('engines', 'engine')} built in {seconds('opening')}" if spent.get("engines") else "",
        f"{count('traced', 'engine')} traced and built in {seconds('tracing')}" if spent.get("traced") else "",
        f"{count('servers', 'server')} started in {seconds('serving')}" if spent.get("servers") else "",
        f"{count('steps', 'step')} in {seconds('stepping')}" if spent.get("steps") else "",
        f"behaviour cases {seconds('behaviour')}" if spent.get("behaviour") else "",
    ]
    return "; ".join(filter(None, parts))
