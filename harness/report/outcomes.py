"""The outcomes a test can have, and small things that every view of a run says."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]
"""A line of the result stream (``harness/pytest_plugin/results.py``)."""

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


def counts_of(records: Iterable[Record]) -> dict[str, int]:
    """How many results have each outcome, in the order in which they come first."""
    return dict(Counter(str(record["outcome"]) for record in records))


def cause(record: Record) -> str:
    """The first line of what went wrong with a test, or of why it was skipped; empty where nothing is said."""
    for verdict in record.get("verdicts", ()):
        if not verdict["passed"]:
            return str(verdict["headline"])
    lines = [line.strip() for line in str(record.get("text", "")).splitlines() if line.strip()]
    return lines[0].removeprefix("Skipped: ") if lines else ""


def reason(record: Record) -> str:
    """Why a test did not pass, in one line: of a known failure what is known of it, else the cause."""
    known = record.get("known_failure", {})
    return str(known.get("reason", "")) if record["outcome"] in ("xfailed", "xpassed") and known else cause(record)


def properties_of(record: Record) -> Iterator[tuple[str, str]]:
    """What a test was about as names that a query can look for: ``requirement__CB-TKV-03``, ``backend__eager`` …"""
    for requirement in record.get("requirements", ()):
        yield f"requirement__{requirement}", "true"
    for name in ("model", "backend", "tensor_parallel_size", "kind", "suite"):
        if record.get(name):
            yield f"{name}__{record[name]}", "true"
    for marker in record.get("markers", ()):
        yield f"marker__{marker}", "true"


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
