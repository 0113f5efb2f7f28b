"""What every scheduler of the plugin shows of itself, and what of it is the same for all."""

from dataclasses import fields
from typing import Any, NamedTuple

from harness.types import SchedulingLimits


class Seen(NamedTuple):
    """What can be seen between two steps, requests by the engine's names; blocks in ids, oldest first.

    ``blocks`` are of every request that holds any, ``reserved`` is how many are. ``paused`` and ``hits`` (blocks of a
    prefix that were not computed again) are None where the plugin has neither.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    blocks: dict[str, tuple[int, ...]]
    reserved: int
    paused: tuple[str, ...] | None = None
    hits: dict[str, int] | None = None


def model_runner(core: Any) -> Any:
    """The model runner of the one worker, which is in this process."""
    return core.model_executor.driver_worker.worker.model_runner


def names(requests: Any) -> tuple[str, ...]:
    """The names of vLLM's requests, in their order."""
    return tuple(request.request_id for request in requests)


def held_blocks(manager: Any) -> dict[str, tuple[int, ...]]:
    """The ids of the blocks that each request holds, from one of vLLM's managers of blocks.

    It has a dictionary that makes entries for whatever it is asked for: it must be read without asking.
    """
    held = manager.req_to_blocks.items()
    return {name: tuple(block.block_id for block in blocks) for name, blocks in held if blocks}


def resolved(limits: SchedulingLimits, most: SchedulingLimits) -> SchedulingLimits:
    """Limits with what they leave open taken from ``most``, which the engine was built with.

    Raises ValueError where a limit is below 1 or beyond what the engine was built with: limits tighten.
    """
    for field in fields(limits):
        asked, bound = getattr(limits, field.name), getattr(most, field.name)
        if asked is not None and not 1 <= asked <= bound:
            raise ValueError(f"{field.name} {asked} is not between 1 and the {bound} the engine was built with")
    return SchedulingLimits(*(getattr(limits, f.name) or getattr(most, f.name) for f in fields(limits)))
