"""The insides of the plugin with one tkv for the batch: read after a step, tightened between two cases.

Works on vLLM's EngineCore as it is, by attribute: nothing here imports vLLM. The plugin's own tests look at the same
attributes of its scheduler and model runner.
"""

from dataclasses import fields
from typing import Any, NamedTuple

from harness.drivers.base import SchedulingLimits


class Seen(NamedTuple):
    """What can be seen between two steps, requests by the engine's names; blocks in ids, oldest first.

    ``blocks`` and ``reserved`` are of every request that holds any.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    blocks: dict[str, tuple[int, ...]]
    reserved: dict[str, int]


def model_runner(core: Any) -> Any:
    """The model runner of the one worker, which is in this process."""
    return core.model_executor.driver_worker.worker.model_runner


def observe(core: Any) -> Seen:
    """Tkv and queues from the scheduler, blocks from the model runner, which keeps the account of them."""
    scheduler, runner = core.scheduler, model_runner(core)
    # A dictionary that makes entries for whatever it is asked for: it must be read without asking.
    held = runner.kv_cache_manager.req_to_blocks
    return Seen(
        scheduler.tkv,
        tuple(request.request_id for request in scheduler.waiting),
        tuple(request.request_id for request in scheduler.running),
        {name: tuple(block.block_id for block in blocks) for name, blocks in held.items() if blocks},
        dict(runner.req_ids2num_reserved_blocks),
    )


def built(core: Any) -> SchedulingLimits:
    """The limits it starts with: to be asked before anything is tightened."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        model_runner(core).n_blocks,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits) -> None:
    """Hold an idle engine to limits that are all said, and give it a fresh pool of blocks.

    The plugin's tests set context, batch, volume and blocks like this. Two things they leave: the scheduler keeps
    copies of context and batch that it took when it was made, and looks at those. They are set as well, so that the
    engine does what one does that was started with these limits.
    """
    scheduler, runner = core.scheduler, model_runner(core)
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    # The environment variable it comes from gives text; what it is compared with makes a number of it.
    scheduler.max_batch_tkv_limit = str(limits.max_batch_tkv_limit)
    scheduler._cache_check_batch_tkv_limit.clear()
    scheduler.tkv = 0
    runner.n_blocks = limits.available_blocks
    runner.block_pool = runner._make_block_pool()
    runner.kv_cache_manager = runner._make_kv_cache_manager()
    scheduler.n_free_blocks = runner.n_blocks


def resolved(limits: SchedulingLimits, most: SchedulingLimits) -> SchedulingLimits:
    """Limits with what they leave open taken from ``most``, which the engine was built with.

    Raises ValueError where a limit is below 1 or beyond what the engine was built with: limits tighten.
    """
    for field in fields(limits):
        asked, bound = getattr(limits, field.name), getattr(most, field.name)
        if asked is not None and not 1 <= asked <= bound:
            raise ValueError(f"{field.name} {asked} is not between 1 and the {bound} the engine was built with")
    return SchedulingLimits(*(getattr(limits, f.name) or getattr(most, f.name) for f in fields(limits)))
