"""Shrink a failing workload: try simpler workloads, and continue with those that fail in the same way.

``survey`` uses this module because it shrinks many failures. hypothesis would shrink only the first one.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from harness.schedulers import search_tools_of
from harness.schedulers.spec import Workload
from harness.types import Verdict

MAX_TRIALS = 200
W = TypeVar("W", bound=Workload)


def failure_kind(verdict: Verdict) -> str:
    """Return the kind of a failure: the headline of the verdict, in which ``N`` replaces each number."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def features_of(workload: Workload) -> tuple[str, ...]:
    """Return the names of the limits and features of a shrunk workload, all of which it needs to fail in this way."""
    return search_tools_of(workload.scheduler).features(workload)


def shrunk(workload: W, verdict: Verdict, check: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """Return the simplest workload that fails in the same way, and its verdict.

    ``check`` runs a workload. At most ``MAX_TRIALS`` workloads are run.
    """
    wrong, trials = failure_kind(verdict), 0
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
            if not result.passed and failure_kind(result) == wrong:
                workload, verdict, again = smaller, result, True
                break
            if trials >= MAX_TRIALS:
                break
    return workload, verdict
