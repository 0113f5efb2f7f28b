"""Runs one after the other: what broke when, what came back, what is flaky, and how long each took."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.report.outcomes import PROBLEMS, SYMBOLS, counts_of, duration
from harness.report.reading import Recorded


@dataclass(frozen=True)
class Night:
    """One run in the history: when it began, how it went."""

    began: str
    engine: str
    seconds: str
    counts: str


@dataclass(frozen=True)
class Past:
    """A test whose outcome was not always good: its outcomes, oldest first, empty where it did not run."""

    test: str
    outcomes: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class History:
    """The runs, oldest first and the one of the page last, and the tests that did not pass in all of them."""

    nights: tuple[Night, ...]
    tests: tuple[Past, ...]


def history(run: Recorded, earlier: Sequence[Recorded]) -> History | None:
    """None where there is nothing to look back at."""
    if not earlier:
        return None
    runs = [*sorted(earlier, key=_began), run]
    nights = tuple(_night(each) for each in runs)
    by_test: dict[str, list[str]] = {}
    for i, each in enumerate(runs):
        for record in each.results:
            by_test.setdefault(str(record["test"]), [""] * len(runs))[i] = str(record["outcome"])
    bad = {*PROBLEMS, "xfailed"}
    changed = [
        Past(name, tuple(outcomes), _since(outcomes, nights))
        for name, outcomes in by_test.items()
        if any(outcome in bad for outcome in outcomes)
    ]
    return History(nights, tuple(sorted(changed, key=lambda past: _worst_last(past.outcomes))))


def _began(run: Recorded) -> float:
    return float(run.header.get("began", 0.0))


def _night(run: Recorded) -> Night:
    counts = counts_of(run.results)
    said = ", ".join(f"{counts[status]} {status}" for status in SYMBOLS if status in counts)
    began = datetime.fromtimestamp(_began(run)).astimezone().strftime("%Y-%m-%d %H:%M")
    seconds = float((run.footer or {}).get("seconds", 0.0))
    return Night(began, run.engine, duration(seconds) if run.footer else "cut off", said or "nothing ran")


def _since(outcomes: Sequence[str], nights: Sequence[Night]) -> str:
    """In words: since when it is as it is now."""
    last = len(outcomes) - 1
    if not outcomes[last]:
        return "not run any more"
    first = last
    while first and outcomes[first - 1] == outcomes[last]:
        first -= 1
    if first == 0:
        return f"{outcomes[last]} in all runs"
    return f"{outcomes[last]} since {nights[first].began}"


def _worst_last(outcomes: Sequence[str]) -> int:
    order = [*PROBLEMS, "xfailed", "passed", "skipped", ""]
    return order.index(outcomes[-1]) if outcomes[-1] in order else len(order)
