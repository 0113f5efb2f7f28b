"""Compare a run with earlier runs: since when tests fail or pass, how often that changed, and which got slower."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from harness.report.latency_view import medians_of
from harness.report.outcomes import PROBLEMS, SYMBOLS, counts_of, duration
from harness.report.reading import Recorded

MUCH_LONGER, LONGER_BY = 1.5, 1.0
"""A test got slower if its duration exceeds ``MUCH_LONGER`` times its median in earlier runs, and also exceeds this
median by more than ``LONGER_BY`` seconds.
"""
MAX_SLOWER = 20


@dataclass(frozen=True)
class HistoryRun:
    """One run in the history. All fields are text: start, engine, duration, and number of tests with each outcome."""

    began: str
    engine: str
    seconds: str
    counts: str


@dataclass(frozen=True)
class PastOutcomes:
    """A test that failed, was flaky, or was a known failure in at least one run.

    ``outcomes`` has the outcome in each run, the oldest first, "" if the run does not have the test. ``since`` is a
    phrase about how long the test has had its latest outcome.
    """

    test: str
    outcomes: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class Slower:
    """A test that got slower. ``before`` is its median duration in earlier runs, ``now`` its duration in this run."""

    test: str
    before: str
    now: str


@dataclass(frozen=True)
class Latencies:
    """The medians of a latency metric in one configuration. ``medians`` has a text for each run, with the unit.

    The text is "" for a run that does not have the metric.
    """

    configuration: str
    metric: str
    medians: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """A run and earlier runs. ``runs_shown`` are the earlier runs, the oldest first, followed by the run itself.

    ``tests`` are the tests that failed, were flaky or were known failures in any of these runs. ``slower`` are the
    tests that got slower in the run itself.
    """

    runs_shown: tuple[HistoryRun, ...]
    tests: tuple[PastOutcomes, ...]
    slower: tuple[Slower, ...] = ()
    latency: tuple[Latencies, ...] = ()


def history(run: Recorded, earlier: Sequence[Recorded]) -> History | None:
    """Return the history that consists of ``run`` and the earlier runs, None if there are no earlier runs."""
    if not earlier:
        return None
    runs = [*sorted(earlier, key=_began), run]
    runs_shown = tuple(_history_run(each) for each in runs)
    by_test: dict[str, list[str]] = {}
    for i, each in enumerate(runs):
        for record in each.results:
            by_test.setdefault(str(record["test"]), [""] * len(runs))[i] = str(record["outcome"])
    bad = {*PROBLEMS, "xfailed"}
    changed = [
        PastOutcomes(name, tuple(outcomes), _since(outcomes, runs_shown))
        for name, outcomes in by_test.items()
        if any(outcome in bad for outcome in outcomes)
    ]
    return History(
        runs_shown,
        tuple(sorted(changed, key=lambda past: _worst_last(past.outcomes))),
        tuple(_slower(run, earlier)),
        tuple(_latencies(runs)),
    )


def _latencies(runs: Sequence[Recorded]) -> Iterator[Latencies]:
    """Yield the medians of first-token and inter-token latency in all ``runs``, for each configuration.

    The unit is milliseconds if steps were timed, otherwise steps. A metric in steps whose median is the same in all
    runs is left out, because it shows only that the schedule did not change.
    """
    medians = [medians_of(run.results) for run in runs]
    for key in dict.fromkeys(key for each in medians for key in each):
        values = tuple(each.get(key, "") for each in medians)
        if not values[-1].endswith("steps") or len(set(values)) > 1:
            yield Latencies(*key, values)


def _slower(run: Recorded, earlier: Sequence[Recorded]) -> Iterator[Slower]:
    """Yield the tests that passed in ``run`` but took much longer than in earlier runs, the largest increase first."""
    before: dict[str, list[float]] = {}
    for each in earlier:
        for record in each.results:
            if record["outcome"] == "passed":
                before.setdefault(str(record["test"]), []).append(float(record.get("seconds", 0.0)))
    found = []
    for record in run.results:
        median_before = median(before.get(str(record["test"]), [0.0]))
        now = float(record.get("seconds", 0.0))
        longer = now - median_before
        if record["outcome"] == "passed" and median_before and now > MUCH_LONGER * median_before and longer > LONGER_BY:
            found.append((longer, Slower(str(record["test"]), duration(median_before), duration(now))))
    worst = sorted(found, key=lambda pair: -pair[0])[:MAX_SLOWER]
    yield from (slower for _, slower in worst)


def _began(run: Recorded) -> float:
    return float(run.header.get("began", 0.0))


def _history_run(run: Recorded) -> HistoryRun:
    counts = counts_of(run.results)
    counted = ", ".join(f"{counts[status]} {status}" for status in SYMBOLS if status in counts)
    began = datetime.fromtimestamp(_began(run)).astimezone().strftime("%Y-%m-%d %H:%M")
    seconds = float((run.footer or {}).get("seconds", 0.0))
    took = duration(seconds) if run.footer else "cut off"
    ended_early = ", ended early" if run.footer and run.incomplete else ""
    return HistoryRun(began, run.engine, f"{took}{ended_early}", counted or "nothing ran")


def _since(outcomes: Sequence[str], runs_shown: Sequence[HistoryRun]) -> str:
    """Return a phrase that says since which run a test has had its latest outcome, such as ``failed in all runs``.

    ``outcomes`` has the outcome of the test in each of ``runs_shown``, "" for a run that does not have the test.
    """
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
    return f"{outcomes[last]} since {runs_shown[first].began}{often}"


def _worst_last(outcomes: Sequence[str]) -> int:
    order = [*PROBLEMS, "xfailed", "passed", "skipped", ""]
    return order.index(outcomes[-1]) if outcomes[-1] in order else len(order)
