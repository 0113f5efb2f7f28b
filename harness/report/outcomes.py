"""The outcomes a test can have, and small things that every view of a run says."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]
"""A line of the result stream (``stream.py``)."""

SYMBOLS = {"passed": "✓", "failed": "✗", "error": "!", "flaky": "≈", "xpassed": "⁺", "xfailed": "ˣ", "skipped": "–"}
"""Every outcome, and what stands before its name wherever it is shown."""

ALWAYS_COUNTED = ("passed", "failed", "error", "skipped")
"""Outcomes that are counted at the top even where there are none; the others come with known failures and retries."""

PROBLEMS = ("failed", "error", "flaky", "xpassed")
"""Outcomes that somebody has to look at, the worst first."""


class HasStatus(Protocol):
    """Anything with an outcome."""

    @property
    def status(self) -> str: ...


def count(views: Iterable[HasStatus], status: str) -> int:
    """How many have that outcome."""
    return sum(view.status == status for view in views)


def number(amount: int, noun: str) -> str:
    """``1 test``, ``2 tests``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def beginning(text: str, most: int) -> str:
    """Cut at the end."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int) -> str:
    """Without the middle: how a text begins and how it ends says most."""
    if len(text) <= most:
        return text
    begin = most // 3
    return f"{text[:begin]} … {len(text) - most:,} more characters … {text[-(most - begin) :]}"
