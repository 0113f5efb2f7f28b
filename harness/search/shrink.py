"""Shrink a failing workload: try smaller ones, as long as they fail in the same way.

This is for ``survey``, which shrinks many failures. hypothesis would shrink only the first one.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from harness.schedulers import search_tools_of
from harness.schedulers.spec import Workload
from harness.types import Verdict

MAX_TRIALS = 200
W = TypeVar("W", bound=Workload)


def manner(verdict: Verdict) -> str:
    """Return the kind of a failure, which is the verdict's headline with ``N`` in place of numbers."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def limits_that_matter(workload: Workload) -> tuple[str, ...]:
    """Return the limits and features of a shrunk workload. Without any of them it would not fail in this way."""
    return search_tools_of(workload.scheduler).features(workload)


def shrunk(workload: W, verdict: Verdict, check: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """Return the smallest workload that fails in the same way, and its verdict, after at most MAX_TRIALS trials."""
    wrong, trials = manner(verdict), 0
    tried = {workload}
    smaller_ones: Callable[[Any], Any] = search_tools_of(workload.scheduler).smaller
    again = True
    while again and trials < MAX_TRIALS:
        again = False
        for smaller in smaller_ones(workload):
            if smaller in tried:
                continue
            tried.add(smaller)
            trials += 1
            result = check(smaller)
            if not result.passed and manner(result) == wrong:
                workload, verdict, again = smaller, result, True
                break
            if trials >= MAX_TRIALS:
                break
    return workload, verdict
