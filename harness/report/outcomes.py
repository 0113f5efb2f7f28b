"""Outcomes of tests, and helpers that all views of a run share."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]
"""A line of the result stream (``harness/pytest_plugin/results.py``)."""

SYMBOLS = {"passed": "✓", "failed": "✗", "error": "!", "flaky": "≈", "xpassed": "⁺", "xfailed": "ˣ", "skipped": "–"}
"""All outcomes, each with the symbol shown before its name."""

ALWAYS_COUNTED = ("passed", "failed", "error", "skipped")
"""Outcomes that are counted at the top even if there are none. The others depend on known failures and retries."""

PROBLEMS = ("failed", "error", "flaky", "xpassed")
"""Outcomes that need attention, the worst first."""


class HasStatus(Protocol):
    """An object with an outcome."""

    @property
    def status(self) -> str: ...


def count(views: Iterable[HasStatus], status: str) -> int:
    """Return how many views have that outcome."""
    return sum(view.status == status for view in views)


def counts_of(records: Iterable[Record]) -> dict[str, int]:
    """Return the number of results by outcome, in the order of first occurrence."""
    return dict(Counter(str(record["outcome"]) for record in records))


def cause(record: Record) -> str:
    """Return the first line of a test's failure or skip reason, empty if there is none."""
    for verdict in record.get("verdicts", ()):
        if not verdict["passed"]:
            return str(verdict["headline"])
    lines = [line.strip() for line in str(record.get("text", "")).splitlines() if line.strip()]
    return lines[0].removeprefix("Skipped: ") if lines else ""


def reason(record: Record) -> str:
    """Return why a test did not pass, in one line: for a known failure its entry, else the cause."""
    known = record.get("known_failure", {})
    return str(known.get("reason", "")) if record["outcome"] in ("xfailed", "xpassed") and known else cause(record)


def properties_of(record: Record) -> Iterator[tuple[str, str]]:
    """Yield a test's properties as names for queries: ``requirement__CB-TKV-03``, ``backend__eager`` …"""
    for requirement in record.get("requirements", ()):
        yield f"requirement__{requirement}", "true"
    for name in ("model", "backend", "tensor_parallel_size", "kind", "suite"):
        if record.get(name):
            yield f"{name}__{record[name]}", "true"
    for marker in record.get("markers", ()):
        yield f"marker__{marker}", "true"


def duration(seconds: float) -> str:
    """Return seconds in a readable form."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def beginning(text: str, most: int) -> str:
    """Return ``text``, cut at the end to ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int) -> str:
    """Return ``text`` without its middle: begin and end are the most informative."""
    if len(text) <= most:
        return text
    begin = most // 3
    return f"{text[:begin]} … {len(text) - most:,} more characters … {text[-(most - begin) :]}"
