"""The adapter for chunked prefill in vllm-spyre 1.3, which introduced it, to 1.10.

It reads the state of an engine, and sets limits between cases. Blocks are read from the model runner, as in
``continuous.py``. Prefix caching was added in 1.4.
"""

from typing import Any

from harness.drivers.vllm import continuous
from harness.drivers.vllm.adapter import (
    Seen,
    held_blocks,
    leave_out_the_model,
    model_runner,
    names,
    without_card,
)
from harness.drivers.vllm.chunked import (
    chunking_arguments,
    decision,
    forget,
    observed_tkv,
    options_of,
    server_flags,
    shape,
)
from harness.drivers.vllm.chunked_rules import rules_of
from harness.drivers.vllm.continuous import built, set_limits
from harness.drivers.vllm.versions import release, version_of
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

WITH_PREFIX_CACHING = (1, 4)
"""The first release of vllm-spyre with prefix caching."""


def observe(core: Any) -> Seen:
    """Return the observable state of the engine. ``paused`` is empty, because these releases do not pause requests.

    ``hits`` is None (not observed), because these releases have another rule for prefix hits: if all tokens of a chunk
    are found in the cache, the chunk still takes a step, in which nothing is computed.
    """
    scheduler, rules = core.scheduler, rules_of(version_of("vllm-spyre"))
    return Seen(
        observed_tkv(core, rules),
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(model_runner(core).kv_cache_manager),
        None,
        (),
        None,
        not (scheduler.requests or scheduler.finished_req_ids),  # Blocks are freed in the step after the last token.
    )


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    installed = version_of("vllm-spyre")
    if options_of(setup).enable_prefix_caching and release(installed) < WITH_PREFIX_CACHING:
        return f"vllm-spyre {installed} has no prefix caching, which the case enables: it was added in 1.4.0"
    if options_of(setup).long_output_priority:
        return f"long_output_priority has no effect: vllm-spyre {installed} never pauses requests"
    return without_card(setup)


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for this plugin, which has no structured outputs."""
    return chunking_arguments(setup)


def engine_environment(setup: EngineSetup) -> dict[str, str]:
    """Return the environment variables that set the plugin's options."""
    options = options_of(setup)
    return {
        "VLLM_SPYRE_CP_INTERLEAVE_STEPS": str(int(options.interleave)),
        # Before 1.8 the chunk size is read from here. Later releases read vLLM's option.
        "VLLM_DT_CHUNK_LEN": str(options.chunk_size),
    }


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command that starts vLLM's server, ``vllm serve``."""
    return [*continuous.server_command(model, setup), *server_flags(setup)]


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Set the limits of an idle engine, and empty its prefix cache. No limit may be None."""
    set_limits(core, limits)
    forget(core.scheduler)
    model_runner(core).req_ids2num_reserved_blocks.clear()
