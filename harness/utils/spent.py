"""Measure the time that a test run spends on imports, on starting engines, on steps, and so on.

Each process has counters, and sends their values with its next test result. A forked process inherits the values that
its parent has not sent yet, and sends them with its own. Therefore a process that only forks other processes, and sends
no test results, need not send its counters.
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
"""Names of the counters. ``imports``, ``behaviour`` and names in -ing are seconds, the other names are counts."""

_spent: dict[str, float] = defaultdict(float)


def add(name: Name, amount: float) -> None:
    """Add ``amount`` to a counter of this process."""
    _spent[name] += amount


@contextmanager
def timed(name: Name) -> Generator[None, None, None]:
    """Add the seconds that the body of the ``with`` statement takes to a counter, even if it raises an exception."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add(name, time.perf_counter() - began)


def take() -> dict[str, float]:
    """Return the values of this process's counters since the last call, and set the counters to zero."""
    taken = {name: round(amount, 4) for name, amount in _spent.items()}
    _spent.clear()
    return taken


def summary(spent: Mapping[str, float]) -> str:
    """Return one line of text with the counters, "" if all are zero."""

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
