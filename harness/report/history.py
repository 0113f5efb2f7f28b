"""Compare a run with earlier runs: since when tests fail or pass, which are flaky, and which got slower."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from harness.report.latency_view import medians_of
from harness.report.outcomes import PROBLEMS, SYMBOLS, counts_of, duration
from harness.report.reading import Recorded

MUCH_LONGER, LONGER_BY = 1.5, 1.0
"""A test is shown as slower if it takes ``MUCH_LONGER`` times as long as before and ``LONGER_BY`` seconds longer."""
MAX_SLOWER = 20


@dataclass(frozen=True)
class Night:
    """One run in the history, with its start, engine, duration and numbers of outcomes as text."""

    began: str
    engine: str
    seconds: str
    counts: str


@dataclass(frozen=True)
class Past:
    """A test that did not pass in all runs.

    ``outcomes`` has its outcome in each run, the oldest first, "" if the run does not have the test. ``since`` is a
    sentence about how long the test has had its present outcome.
    """

    test: str
    outcomes: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class Slower:
    """A test that takes longer than before. ``usually`` is the median of earlier runs, and ``now`` is this run."""

    test: str
    usually: str
    now: str


@dataclass(frozen=True)
class Latencies:
    """The medians of a latency metric in one configuration, with their unit; empty for runs without it."""

    configuration: str
    metric: str
    medians: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """Several runs, the oldest first, with the tests that did not pass in all of them, and those that got slower.

    The last run is the one that the page is about.
    """

    nights: tuple[Night, ...]
    tests: tuple[Past, ...]
    slower: tuple[Slower, ...] = ()
    latency: tuple[Latencies, ...] = ()


def history(run: Recorded, earlier: Sequence[Recorded]) -> History | None:
    """Return the history of a run and of earlier runs, None if there are no earlier runs."""
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
    return History(
        nights,
        tuple(sorted(changed, key=lambda past: _worst_last(past.outcomes))),
        tuple(_slower(run, earlier)),
        tuple(_latencies(runs)),
    )


def _latencies(runs: Sequence[Recorded]) -> Iterator[Latencies]:
    """Yield the medians of first-token and inter-token latency: in milliseconds where steps were timed, else in steps.

    A metric that is in steps and the same in all runs is left out: it is the schedule's and did not change.
    """
    medians = [medians_of(run.results) for run in runs]
    for key in dict.fromkeys(key for each in medians for key in each):
        values = tuple(each.get(key, "") for each in medians)
        if not values[-1].endswith("steps") or len(set(values)) > 1:
            yield Latencies(*key, values)


def _slower(run: Recorded, earlier: Sequence[Recorded]) -> Iterator[Slower]:
    """Yield the passed tests that took much longer than in earlier runs, the largest increase first."""
    before: dict[str, list[float]] = {}
    for each in earlier:
        for record in each.results:
            if record["outcome"] == "passed":
                before.setdefault(str(record["test"]), []).append(float(record.get("seconds", 0.0)))
    found = []
    for record in run.results:
        usually = median(before.get(str(record["test"]), [0.0]))
        now = float(record.get("seconds", 0.0))
        if record["outcome"] == "passed" and usually and now > MUCH_LONGER * usually and now - usually > LONGER_BY:
            found.append((now - usually, Slower(str(record["test"]), duration(usually), duration(now))))
    worst = sorted(found, key=lambda pair: -pair[0])[:MAX_SLOWER]
    yield from (slower for _, slower in worst)


def _began(run: Recorded) -> float:
    return float(run.header.get("began", 0.0))


def _night(run: Recorded) -> Night:
    counts = counts_of(run.results)
    counted = ", ".join(f"{counts[status]} {status}" for status in SYMBOLS if status in counts)
    began = datetime.fromtimestamp(_began(run)).astimezone().strftime("%Y-%m-%d %H:%M")
    seconds = float((run.footer or {}).get("seconds", 0.0))
    took = duration(seconds) if run.footer else "cut off"
    ended_early = ", ended early" if run.footer and run.incomplete else ""
    return Night(began, run.engine, f"{took}{ended_early}", counted or "nothing ran")


def _since(outcomes: Sequence[str], nights: Sequence[Night]) -> str:
    """Return a sentence that says since which run a test has had its present outcome."""
    last = len(outcomes) - 1
    if not outcomes[last]:
        return "no longer run"
    first = last
    while first and outcomes[first - 1] == outcomes[last]:
        first -= 1
    if first == 0:
        return f"{outcomes[last]} in all runs"
    ran = [outcome for outcome in outcomes if outcome]
    changes = sum(one != other for one, other in pairwise(ran))
    often = f", changed {changes} times" if changes > 1 else ""
    return f"{outcomes[last]} since {nights[first].began}{often}"


def _worst_last(outcomes: Sequence[str]) -> int:
    order = [*PROBLEMS, "xfailed", "passed", "skipped", ""]
    return order.index(outcomes[-1]) if outcomes[-1] in order else len(order)
