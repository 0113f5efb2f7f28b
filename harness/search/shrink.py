"""Shrink a failing workload: try simpler workloads, and continue with one that fails in the same way.

``survey`` uses this module, because hypothesis shrinks only the first failure, and a survey shrinks every failure.
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
    """Return the headline of a verdict with ``N`` in place of each number, so that similar failures have equal texts.

    A list of numbers with spaces between them is replaced by one ``N``.
    """
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def features_of(workload: Workload) -> tuple[str, ...]:
    """Return names for what is not default in a workload, such as ``max_num_seqs``.

    In a workload that ``shrunk`` returned, the failure needs these features: without them, no failure of the same kind
    was found.
    """
    return search_tools_of(workload.scheduler).features(workload)


def shrunk(workload: W, verdict: Verdict, check: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """Simplify ``workload`` as long as its failure stays of the same kind (``failure_kind``).

    ``verdict`` is the verdict about ``workload``. ``check`` runs a workload and returns its verdict. At most
    ``MAX_TRIALS`` workloads are run. Return (simplest workload found, its verdict).
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
