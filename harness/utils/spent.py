"""What a run takes its time for: added up where it is taken, and sent along with the next result of that process.

What has not been sent goes to the next fork, which sends it: so does what a process that only forks has taken.
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
"""Counts are plural nouns; ``imports`` and what ends in -ing, and ``behaviour`` (cases of that kind) are seconds."""

_spent: dict[str, float] = defaultdict(float)


def add(name: Name, amount: float) -> None:
    _spent[name] += amount


@contextmanager
def timed(name: Name) -> Generator[None, None, None]:
    """Add the seconds that this takes, also where it fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add(name, time.perf_counter() - began)


def take() -> dict[str, float]:
    """Everything since the last call, which is forgotten here."""
    taken = {name: round(amount, 4) for name, amount in _spent.items()}
    _spent.clear()
    return taken


def summary(spent: Mapping[str, float]) -> str:
    """In a line, what there was of each, all processes together; empty where there was nothing."""

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
