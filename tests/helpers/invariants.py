"""Helpers for tests of the continuous scheduler's invariants: correct runs (GOOD), and checks of verdicts."""

import re

from harness.schedulers.continuous.invariants import check_invariants
from harness.types import Run, SchedulingLimits, Verdict
from tests.helpers.harness import Simulated, a_request, simulate, two_that_overlap

SEEN = two_that_overlap()


RUNNING = "running is newest first"


QUEUE = "strict first in, first out"


END = "every sequence finishes exactly once: with its last token, or when it fills the context"


IDLE = "when no request is left, no block is held and tkv is 0"


def checked(seen: Simulated, run: Run | None = None, **limits: int) -> Verdict:
    effective = SchedulingLimits(**limits) if limits else seen.limits
    return check_invariants(run or seen.run, seen.specs, seen.requests, effective)


def broken(verdict: Verdict, rule: str, first: str, *others: str) -> None:
    """Check that a verdict failed with ``first`` in its headline, ``others`` in its details, and the rule ``rule``.

    ``first`` has the form ``step N: WHAT``.
    """
    assert not verdict.passed
    step, what = first.split(": ", 1)
    assert re.sub(r" \(and \d+ more\)$", "", verdict.headline) == f"invariant broken at {step}: {what}"
    assert rule in verdict.rule
    assert set(others) <= set(verdict.details)


GOOD = {
    "two that overlap": SEEN,
    "one alone": simulate(a_request(60, 5)),
    "one token each": simulate(a_request(60, 1), a_request(60, 1)),
    "batch of one": simulate(a_request(60, 3), a_request(60, 3), max_num_seqs=1),
    "more than the batch": simulate(*[a_request(20 * i + 1, 10 + i) for i in range(7)], max_num_seqs=2),
    "tkv grows for a longer prompt": simulate(a_request(10, 30), a_request(200, 5, join_step=3)),
    "padding is removed": simulate(a_request(200, 3), a_request(10, 90), a_request(10, 20, join_step=30)),
    "few blocks": simulate(*[a_request(100, 40)] * 4, available_blocks=8),
    "little batch x tkv": simulate(*[a_request(64, 40)] * 4, max_batch_tkv_limit=230),
    "a pause between two": simulate(a_request(10, 2), a_request(10, 2, join_step=20)),
    "aborted while it waits": simulate(a_request(60, 5), a_request(60, 5, abort_step=2), max_num_seqs=1),
    "aborted before its first step": simulate(a_request(60, 5, abort_step=0)),
    "aborted while it runs": simulate(a_request(60, 9, abort_step=4), a_request(60, 9, join_step=2)),
    "aborted in the step it would have ended": simulate(a_request(60, 3, abort_step=3), a_request(60, 9)),
    "aborted after its end": simulate(a_request(60, 3, abort_step=7), a_request(60, 9)),
    "aborted all at once": simulate(*[a_request(60, 9, abort_step=5)] * 3),
}


def step_where(seen: Simulated, **values: object) -> int:
    """Return the number of the first step of a run whose fields have the given values."""
    return next(s.step for s in seen.run.steps if all(getattr(s, name) == value for name, value in values.items()))
