"""Shrink a workload by trial while it fails in the same way, for engines with many failures.

hypothesis shrinks only the one failure that stopped it; a survey shrinks each of many failures separately.
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
    """Return the kind of failure: the verdict's headline without numbers."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def limits_that_matter(workload: Workload) -> tuple[str, ...]:
    """Return limits and features that a shrunk workload still needs to fail in this way."""
    return search_tools_of(workload.scheduler).takes(workload)


def shrunk(workload: W, verdict: Verdict, check: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """Return the smallest workload found within MAX_TRIALS, and its verdict."""
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
