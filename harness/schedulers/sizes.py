"""How large random workloads get, the engine they run on, and what shrinking goes towards."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.types import SchedulingLimits

CONTEXT, BATCH, BLOCKS = 512, 4, 35
"""The shape that suites run on where they ask for nothing larger: tokens, sequences, blocks for sequences."""

AS_BUILT = {
    "max_model_len": CONTEXT,
    "max_num_seqs": BATCH,
    "available_blocks": BLOCKS,
    "max_batch_tkv_limit": CONTEXT * BATCH,
}


@dataclass(frozen=True)
class Sizes:
    """How large workloads get: requests, tokens, tokens, steps."""

    requests: int = 7
    prompt: int = 200
    budget: int = 130
    join_step: int = 120


def tightened(limits: SchedulingLimits) -> tuple[str, ...]:
    """The names of those that are not as the engine was built."""
    return tuple(name for name, built in AS_BUILT.items() if getattr(limits, name) != built)


def loosened(limits: SchedulingLimits) -> Iterator[SchedulingLimits]:
    """With one of them as the engine was built."""
    return (replace(limits, **{name: AS_BUILT[name]}) for name in tightened(limits))


def towards(number: int, least: int) -> Iterator[int]:
    """Numbers between, the least first."""
    if number > least:
        yield from dict.fromkeys((least, (least + number) // 2, number - 1))
