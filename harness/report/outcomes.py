"""The outcomes of tests, and functions that several reports use."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

Record = Mapping[str, Any]
"""A line of a results file as a dict. ``harness/pytest_plugin/results.py`` writes it."""

SYMBOLS = {"passed": "✓", "failed": "✗", "error": "!", "flaky": "≈", "xpassed": "⁺", "xfailed": "ˣ", "skipped": "–"}
"""All outcomes of tests, each with the symbol that is shown before the name of the outcome."""

ALWAYS_COUNTED = ("passed", "failed", "error", "skipped")
"""Outcomes whose number of tests is always shown at the top of the page, even if it is 0."""

PROBLEMS = ("failed", "error", "flaky", "xpassed")
"""Outcomes that are problems, the worst first."""


MAX_NAMED = 3
"""Maximum number of tests that a sentence names, if the tests were running when a run ended."""


class HasStatus(Protocol):
    """An object with an outcome."""

    @property
    def status(self) -> str: ...


def count(views: Iterable[HasStatus], status: str) -> int:
    """Return the number of tests in ``views`` with the outcome ``status``."""
    return sum(view.status == status for view in views)


def counts_of(records: Iterable[Record]) -> dict[str, int]:
    """Return the number of tests with each outcome."""
    return dict(Counter(str(record["outcome"]) for record in records))


def cause(record: Record) -> str:
    """Return the first line of a test's failure or of its skip reason, "" if there is none."""
    for verdict in record.get("verdicts", ()):
        if not verdict["passed"]:
            return str(verdict["headline"])
    lines = [line.strip() for line in str(record.get("text", "")).splitlines() if line.strip()]
    return lines[0].removeprefix("Skipped: ") if lines else ""


def reason(record: Record) -> str:
    """Return one line that says why a test did not pass. For a known failure, return the reason given in its list."""
    known = record.get("known_failure", {})
    return str(known.get("reason", "")) if record["outcome"] in ("xfailed", "xpassed") and known else cause(record)


def properties_of(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the JUnit properties of a test as (name, value). Names are such as ``requirement__CB-TKV-03``."""
    for requirement in record.get("requirements", ()):
        yield f"requirement__{requirement}", "true"
    for name in ("model", "backend", "tensor_parallel_size", "kind", "suite"):
        if record.get(name):
            yield f"{name}__{record[name]}", "true"
    for marker in record.get("markers", ()):
        yield f"marker__{marker}", "true"


def named(running: Sequence[str]) -> str:
    """Return text in parentheses that names the tests that were running when a run ended, "" if there are none.

    The text begins with a space, so that it can be appended to a sentence.
    """
    if not running:
        return ""
    more = f" and {len(running) - MAX_NAMED} more" if len(running) > MAX_NAMED else ""
    return f" (running: {', '.join(running[:MAX_NAMED])}{more})"


def duration(seconds: float) -> str:
    """Return a duration as text, such as ``120 ms`` or ``3 min 20 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def beginning(text: str, length: int) -> str:
    """Return ``text``, cut off at the end if it has more than ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shortened(text: str, length: int) -> str:
    """Return ``text`` without its middle if it has more than ``length`` characters."""
    if len(text) <= length:
        return text
    begin = length // 3
    return f"{text[:begin]} … {len(text) - length:,} more characters … {text[-(length - begin) :]}"
