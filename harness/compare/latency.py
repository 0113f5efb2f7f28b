"""Find metrics that got slower between two sets of repeated runs, by more than the noise between runs of the same set.

A series is a metric of one case or of one configuration, with one value for each run. The value for a case is the
median over the requests of the case. The value for a configuration is the geometric mean of the medians of all its
cases.

The statistical test is a permutation test with the maximum statistic (Westfall and Young, "Resampling-Based Multiple
Testing", 1993). A permutation is a way to divide the runs into two sets of the given sizes. For each permutation, the
largest statistic of all series is computed. A series got slower if this maximum is at least the series' own observed
statistic in at most 5 % of the permutations. So the probability of reporting anything if nothing changed is at most
5 %. This holds for any number of cases, and also if a whole run was slow because the machine was busy.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

from harness.compare.results import Key, Run
from harness.latency import latencies_of
from harness.latency.metrics import METRICS

TIMED = tuple(metric for metric in METRICS if metric.name in ("first_token", "between", "between_decodes"))
LEVEL = 0.05
MIN_RUNS = 4
"""Minimum number of runs in each set. With 3 runs there would be 20 permutations, and no p-value could be below 5 %."""
MAX_PERMUTATIONS = 2000
"""Maximum number of permutations to evaluate. If more exist, a sample of this size is drawn with a fixed seed."""

Series = tuple[Key, str]
"""Identifies a series: the key of a case or of a configuration, and the name of a metric.

The key of a configuration has an empty suite and an empty case.
"""


class LatencyError(ValueError):
    """The runs can't be compared. The message is one sentence for the user."""


@dataclass(frozen=True)
class Slower:
    """A metric of a case or of a configuration that got slower.

    ``before`` and ``after`` are the medians over the runs of each set, in seconds. ``p`` is the p-value, adjusted for
    the number of comparisons.
    """

    key: Key
    metric: str
    before: float
    after: float
    ratio: float
    p: float


@dataclass(frozen=True)
class Later:
    """A request that has a larger latency in engine steps in the second run than in the first.

    The schedule has changed: without a change, the steps are the same in every run, so no statistical test is needed.
    ``before`` and ``after`` are the sums of the values of ``metric`` for the request, in steps.
    """

    key: Key
    request: int
    metric: str
    before: float
    after: float


@dataclass(frozen=True)
class LatencyComparison:
    """The result of a comparison of two sets of runs.

    ``series`` is the number of series that were compared. A series is a metric of one case or one configuration, with
    one value for each run. ``noise`` is the median, over all series, of the relative standard deviation between the
    runs of the same set.
    """

    slower: tuple[Slower, ...]
    later: tuple[Later, ...]
    series: int
    noise: float


def compare_latency(before: Sequence[Run], after: Sequence[Run]) -> LatencyComparison:
    """Compare the latencies of two sets of runs.

    Raises LatencyError if a set has fewer than ``MIN_RUNS`` runs, or if no case was timed in all runs.
    """
    if min(len(before), len(after)) < MIN_RUNS:
        raise LatencyError(
            f"{len(before)} and {len(after)} runs are too few to tell a change from noise: at least {MIN_RUNS} runs in "
            "each of the two sets are needed"
        )
    logs = _common([_series(run) for run in (*before, *after)])
    if not logs:
        raise LatencyError("no case has step times in every run: steps are only timed if the engine runs a model")
    count = len(before)
    spread = [_pooled(*_divided(values, range(count))) for values in logs.values()]
    floor = median(spread) or 1e-9
    found = _adjusted(logs, count, floor)
    slower = [
        Slower(*series, *_medians(logs[series], count), ratio=_ratio(logs[series], count), p=p)
        for series, p in found.items()
        if p <= LEVEL
    ]
    return LatencyComparison(
        tuple(sorted(slower, key=lambda each: (each.key[1] != "", -each.ratio))),
        tuple(_later(before[0], after[0])),
        len(logs),
        floor,
    )


def _series(run: Run) -> dict[Series, float]:
    """Return the values of all series of a run, as logarithms of seconds.

    The value for a case and a metric is the logarithm of the median over the requests of the case. The value for a
    configuration is the mean of the values of its cases. Only tests that passed are included.
    """
    found: dict[Series, float] = {}
    sums: dict[Series, list[float]] = {}
    for key, record in run.results.items():
        measured = latencies_of(record)
        if measured is None or record["outcome"] != "passed":
            continue
        for metric in TIMED:
            values = metric.of_all(measured.seconds)
            if values and median(values) > 0:
                found[key, metric.name] = math.log(median(values))
                sums.setdefault((("", "", key[2]), metric.name), []).append(found[key, metric.name])
    return {series: fmean(values) for series, values in sums.items()} | found


def _common(runs: Sequence[Mapping[Series, float]]) -> dict[Series, list[float]]:
    """Return, for each series that all runs have, its values in the order of the runs.

    The series of configurations are means over cases. They are left out if the runs do not all have the same cases.
    """
    cases = [{series for series in run if series[0][1]} for run in runs]
    same = all(each == cases[0] for each in cases)
    return {
        series: [run[series] for run in runs]
        for series in runs[0]
        if all(series in run for run in runs) and (same or series[0][1])
    }


def _adjusted(logs: Mapping[Series, Sequence[float]], count: int, floor: float) -> dict[Series, float]:
    """Return the p-value of each series, adjusted for the number of series.

    The alternative hypothesis is that the second set of runs is slower. ``logs`` has the values of each series, of
    which the first ``count`` are from the first set. ``floor`` is added to standard deviations, which can be 0.
    """
    runs = len(next(iter(logs.values())))
    observed = {series: _statistic(values, range(count), floor) for series, values in logs.items()}
    exceeded = dict.fromkeys(logs, 0)
    permutations = list(_permutations(runs, count))
    for first in permutations:
        largest = max(_statistic(values, first, floor) for values in logs.values())
        for series, statistic in observed.items():
            exceeded[series] += largest >= statistic - 1e-12
    return {series: times / len(permutations) for series, times in exceeded.items()}


def _permutations(runs: int, count: int) -> Iterator[Sequence[int]]:
    """Yield ways to divide the runs into two sets: each time, the positions of the ``count`` runs of the first set.

    The actual division, positions 0 to ``count - 1``, comes first.
    """
    if math.comb(runs, count) <= MAX_PERMUTATIONS:
        yield from combinations(range(runs), count)
        return
    draw = random.Random(0)
    yield range(count)
    for _ in range(MAX_PERMUTATIONS - 1):
        yield draw.sample(range(runs), count)


def _statistic(values: Sequence[float], first: Sequence[int], floor: float) -> float:
    """Return the difference between the means of two sets of runs, divided by the standard deviation within the sets.

    ``first`` has the positions in ``values`` of the runs of the first set. ``floor`` is added to the standard
    deviation, which can be 0.
    """
    before, after = _divided(values, first)
    return (fmean(after) - fmean(before)) / (_pooled(before, after) + floor)


def _divided(values: Sequence[float], first: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return the values of the runs at the positions ``first``, and the values of all other runs."""
    return [values[i] for i in first], [value for i, value in enumerate(values) if i not in first]


def _pooled(before: Sequence[float], after: Sequence[float]) -> float:
    return math.sqrt((_variance(before) + _variance(after)) / 2)


def _variance(values: Sequence[float]) -> float:
    """Return the variance of a sample.

    ``statistics.variance`` is not used because it computes with fractions, which takes ten times as long.
    """
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _medians(values: Sequence[float], count: int) -> tuple[float, float]:
    return math.exp(median(values[:count])), math.exp(median(values[count:]))


def _ratio(values: Sequence[float], count: int) -> float:
    before, after = _medians(values, count)
    return after / before


def _later(before: Run, after: Run) -> Iterator[Later]:
    """Yield an entry for each request and metric whose latency in steps is larger in ``after`` than in ``before``."""
    for key, record in after.results.items():
        earlier = before.results.get(key)
        then, now = (latencies_of(each) if each is not None else None for each in (earlier, record))
        if then is None or now is None:
            continue
        known = {request.request: request for request in then.steps}
        for request in now.steps:
            for metric in METRICS:
                if metric.name != "between_decodes" and request.request in known:
                    was, is_now = (sum(metric.values(each)) for each in (known[request.request], request))
                    if is_now > was:
                        yield Later(key, request.request, metric.name, was, is_now)
