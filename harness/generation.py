"""The generations of batching, as the harness knows them: what must hold after every step, what rules say of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.checks.chunked_invariants import check_chunked_invariants
from harness.checks.invariants import check_invariants
from harness.checks.verdict import Verdict
from harness.drivers.base import ChunkingSetup, RequestSpec, SchedulingLimits
from harness.expand import Expanded
from harness.explain import by_the_rules, impossible
from harness.explain_chunked import by_the_chunked_rules, impossible_chunked
from harness.schema import Request
from harness.workload import Run

Specs = Sequence[RequestSpec]
Timings = Sequence[Request]


Invariants = Callable[[Run, Specs, Timings, SchedulingLimits], Verdict]


@dataclass(frozen=True)
class Generation:
    """``invariants`` judges a whole run. ``impossible`` says why no engine can finish a workload, or None.

    ``said`` is what the rules say of a step of it, or None where they cannot be asked.
    """

    invariants: Invariants
    impossible: Callable[[SchedulingLimits, Specs, Timings, Run], str | None]
    said: Callable[[SchedulingLimits, Specs, Timings, Run, int], str | None]


CONTINUOUS = Generation(check_invariants, impossible, by_the_rules)
STATIC = replace(CONTINUOUS, said=lambda *_: None)
"""The foil keeps the invariants of continuous batching, and not its rules of who joins when."""


def generation_of(expanded: Expanded) -> Generation:
    """The one that a test is of."""
    return STATIC if expanded.configuration.scheduler == "static" else generation_for(expanded.chunking)


def generation_for(chunking: ChunkingSetup | None) -> Generation:
    """The one whose schedulers are told these options, or none."""
    return CONTINUOUS if chunking is None else _chunked(chunking)


def _chunked(options: ChunkingSetup) -> Generation:
    return Generation(
        lambda run, specs, timings, limits: check_chunked_invariants(run, specs, timings, limits, options),
        lambda limits, specs, timings, run: impossible_chunked(limits, options, specs, timings, run),
        lambda limits, specs, timings, run, step: by_the_chunked_rules(limits, options, specs, timings, run, step),
    )
