"""The adapter for continuous batching in vllm-spyre 1.0 to 1.10.

It reads the state of an engine, and sets limits between cases. It uses attributes of vLLM's EngineCore, of the
scheduler and of the model runner that the plugin's own tests use as well. It does not import vLLM.
"""

import sys
from pathlib import Path
from typing import Any

from harness.drivers.vllm.adapter import (
    IDLE,
    Decision,
    Seen,
    forget_bad_words,
    held_blocks,
    leave_out_the_model,
    model_runner,
    names,
    without_card,
)
from harness.types import EngineSetup, SchedulingLimits

__all__ = [
    "built",
    "decision",
    "engine_arguments",
    "engine_environment",
    "leave_out_the_model",
    "observe",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]


def observe(core: Any) -> Seen:
    """Return the observable state: tkv and queues from the scheduler, and blocks from the model runner."""
    scheduler = core.scheduler
    held, reserved = blocks_of_runner(model_runner(core))
    return Seen(scheduler.tkv, names(scheduler.waiting), names(scheduler.running), held, reserved)


def blocks_of_runner(runner: Any) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return (ids of the blocks that each request holds, number of reserved blocks).

    Before vllm-spyre 1.3, the model runner has its own block pool, in which requests can hold block 0. In the harness,
    block 0 is only for padding, so 1 is added to the block ids of these releases.
    """
    if has_own_pool(runner):
        held = {name: tuple(b + 1 for b in blocks) for name, blocks in runner.req_ids2blocks.items() if blocks}
        return held, sum(runner.req_ids2reserved_blocks.values())
    return held_blocks(runner.kv_cache_manager), sum(runner.req_ids2num_reserved_blocks.values())


def has_own_pool(runner: Any) -> bool:
    """Return whether the model runner has its own block pool, as before vllm-spyre 1.3.

    Requests can use all blocks of the runner's own pool. Since 1.3 the pool is vLLM's, in which one block is only for
    padding.
    """
    return hasattr(runner, "req_ids2blocks")


def decision(core: Any, scheduled: Any) -> Decision:  # noqa: ARG001
    """Return what the scheduler decided for a step. ``scheduled`` is vLLM's SchedulerOutput of the step.

    The step is a prefill if it schedules a request for the first time.
    """
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if scheduled.scheduled_new_reqs else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    return without_card(setup)


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup with which to start an engine for ``setup``: the same setup. This scheduler has no options."""
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:  # noqa: ARG001
    """Return the arguments of vLLM's LLM for this plugin."""
    return {"enable_prefix_caching": False}


def engine_environment(setup: EngineSetup) -> dict[str, str]:  # noqa: ARG001
    """Return the environment variables that set the plugin's options."""
    return {}


def server_command(model: str, setup: EngineSetup) -> list[str]:  # noqa: ARG001
    """Return the command that starts vLLM's server, ``vllm serve``."""
    return [str(Path(sys.executable).with_name("vllm")), "serve", model]


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was started. Must be called before ``tighten``, which overwrites them."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.vllm_config.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        model_runner(core).n_blocks,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Set the limits of an idle engine, and give it a new block pool, as the plugin's tests do. No limit may be None.

    In contrast to the plugin's tests, the scheduler's copies of ``max_model_len`` and ``max_num_seqs`` are set as well,
    so that the engine behaves like an engine that was started with these limits.
    """
    set_limits(core, limits)
    core.scheduler._cache_check_batch_tkv_limit.clear()


def set_limits(core: Any, limits: SchedulingLimits) -> None:
    """Set the limits in the configuration and in the scheduler, which has copies of them. Create a new block pool.

    No limit may be None.
    """
    scheduler, runner, blocks = core.scheduler, model_runner(core), limits.available_blocks
    assert blocks is not None, "no limit may be None"
    config = scheduler.vllm_config
    # Versions before 1.4.2 read the context from the scheduler's configuration.
    config.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    # The plugin keeps this limit as a string, the value of an environment variable, and converts it to a number.
    scheduler.max_batch_tkv_limit = str(limits.max_batch_tkv_limit)
    scheduler.tkv = 0
    runner._set_blocks(num_blocks=blocks if has_own_pool(runner) else blocks + 1)
    scheduler.n_free_blocks = runner.n_blocks
    forget_bad_words(runner)
