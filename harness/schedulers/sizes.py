"""Sizes of random workloads, the engine that runs them, and helpers for shrinking."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.types import SchedulingLimits

CONTEXT, BATCH, BLOCKS = 512, 4, 35
"""Default shape of engines for suites: context in tokens, sequences, blocks for sequences."""

AS_BUILT = {
    "max_model_len": CONTEXT,
    "max_num_seqs": BATCH,
    "available_blocks": BLOCKS,
    "max_batch_tkv_limit": CONTEXT * BATCH,
}


@dataclass(frozen=True)
class Sizes:
    """Maximum sizes of workloads: number of requests, tokens, tokens, steps."""

    requests: int = 7
    prompt: int = 200
    budget: int = 130
    join_step: int = 120


def tightened(limits: SchedulingLimits) -> tuple[str, ...]:
    """Return the names of the limits that are not as the engine was built."""
    return tuple(name for name, built in AS_BUILT.items() if getattr(limits, name) != built)


def loosened(limits: SchedulingLimits) -> Iterator[SchedulingLimits]:
    """Yield the limits with one of them reset to how the engine was built."""
    return (replace(limits, **{name: AS_BUILT[name]}) for name in tightened(limits))


def towards(number: int, least: int) -> Iterator[int]:
    """Yield numbers from ``least`` up to ``number``."""
    if number > least:
        yield from dict.fromkeys((least, (least + number) // 2, number - 1))
