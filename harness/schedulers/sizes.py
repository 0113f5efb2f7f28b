"""The sizes of random workloads and of the engine that runs them, and functions to shrink limits and numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.types import SchedulingLimits

CONTEXT, BATCH, BLOCKS = 512, 4, 35
"""The shape of the engine, the default of suites: max_model_len, max_num_seqs, and number of blocks for requests."""

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
    """Return the names of the limits that differ from those with which the engine is built."""
    return tuple(name for name, built in AS_BUILT.items() if getattr(limits, name) != built)


def loosened(limits: SchedulingLimits) -> Iterator[SchedulingLimits]:
    """Yield the limits with one of them set to that with which the engine is built."""
    return (replace(limits, **{name: AS_BUILT[name]}) for name in tightened(limits))


def towards(number: int, least: int) -> Iterator[int]:
    """Yield some numbers from ``least`` up to ``number``, which is not included, the smallest first."""
    if number > least:
        yield from dict.fromkeys((least, (least + number) // 2, number - 1))
