"""The maximum sizes of random workloads, the limits of the engine that runs them, and functions to shrink workloads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.types import SchedulingLimits

CONTEXT, BATCH, BLOCKS = 512, 4, 35
"""max_model_len, max_num_seqs and number of blocks of the engine. They are also the defaults in suites."""

AS_BUILT = {
    "max_model_len": CONTEXT,
    "max_num_seqs": BATCH,
    "available_blocks": BLOCKS,
    "max_batch_tkv_limit": CONTEXT * BATCH,
}


@dataclass(frozen=True)
class Sizes:
    """The maximum sizes of a workload: number of requests, length of a prompt, ``max_tokens`` and ``join_step``."""

    requests: int = 7
    prompt: int = 200
    max_tokens: int = 130
    join_step: int = 120


def tightened(limits: SchedulingLimits) -> tuple[str, ...]:
    """Return the names of the limits that differ from ``AS_BUILT``, the limits with which the engine is started."""
    return tuple(name for name, built in AS_BUILT.items() if getattr(limits, name) != built)


def loosened(limits: SchedulingLimits) -> Iterator[SchedulingLimits]:
    """Yield copies of ``limits``. In each copy, one limit has the value with which the engine is started."""
    return (replace(limits, **{name: AS_BUILT[name]}) for name in tightened(limits))


def towards(number: int, smallest: int) -> Iterator[int]:
    """Yield up to three numbers that are less than ``number`` and at least ``smallest``, the smallest first.

    These are the numbers to try in place of ``number`` when a workload is shrunk.
    """
    if number > smallest:
        yield from dict.fromkeys((smallest, (smallest + number) // 2, number - 1))
