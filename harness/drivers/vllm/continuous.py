"""The adapter for the plugin with continuous batching, vllm-spyre.

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
    "eos_token_id",
    "leave_out_the_model",
    "observe",
    "request_fields",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]


def observe(core: Any) -> Seen:
    """Return the observable state: tkv and queues from the scheduler, and blocks from the model runner."""
    scheduler, runner = core.scheduler, model_runner(core)
    return Seen(
        scheduler.tkv,
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(runner.kv_cache_manager),
        sum(runner.req_ids2num_reserved_blocks.values()),
    )


def decision(core: Any, scheduled: Any) -> Decision:  # noqa: ARG001
    """Return what the scheduler decided for a step. The step is a prefill if it has a new request."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if scheduled.scheduled_new_reqs else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    return without_card(setup)


def request_fields(processor: Any) -> dict[str, Any]:
    """Return the fields that this version of vLLM's request has in addition to the common ones."""
    return {"eos_token_id": eos_token_id(processor)}


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that vLLM's input processor adds to requests."""
    return processor.input_preprocessor.get_eos_token_id()  # type: ignore[no-any-return]


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup unchanged, because this scheduler has no options."""
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
    """Return the limits with which the engine was built. Must be called before ``tighten``."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        model_runner(core).n_blocks,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Set the limits of an idle engine, and give it a new block pool, as the plugin's tests do. No limit may be None.

    The scheduler has copies of ``max_model_len`` and ``max_num_seqs``, which the plugin's tests do not set. The copies
    are set as well, so that the engine behaves like one that was started with these limits.
    """
    scheduler, runner = core.scheduler, model_runner(core)
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    # The plugin keeps this limit as a string, the value of an environment variable, and converts it to a number.
    scheduler.max_batch_tkv_limit = str(limits.max_batch_tkv_limit)
    scheduler._cache_check_batch_tkv_limit.clear()
    scheduler.tkv = 0
    runner.n_blocks = limits.available_blocks
    runner.block_pool = runner._make_block_pool()
    runner.kv_cache_manager = runner._make_kv_cache_manager()
    scheduler.n_free_blocks = runner.n_blocks
