"""Make a workload smaller while it goes wrong in the same way, by trial: for engines that go wrong often.

Hypothesis shrinks the one failure it was stopped by; a survey has many, and shrinks each apart from the others.
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
    """In which way something goes wrong: what is said of it, without its numbers."""
    return re.sub(r"\d+( \d+)*", "N", verdict.headline.split(" (/")[0])


def limits_that_matter(workload: Workload) -> tuple[str, ...]:
    """What a workload that was shrunk still takes, limits above all: without, it would not go wrong in this way."""
    return search_tools_of(workload.scheduler).takes(workload)


def shrunk(workload: W, verdict: Verdict, judge: Callable[[W], Verdict]) -> tuple[W, Verdict]:
    """The smallest that was found within MAX_TRIALS, and what is said of it."""
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
            said = judge(smaller)
            if not said.passed and manner(said) == wrong:
                workload, verdict, again = smaller, said, True
                break
            if trials >= MAX_TRIALS:
                break
    return workload, verdict
