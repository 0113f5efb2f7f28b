"""The insides of the plugin with one tkv for the batch: read after a step, tightened between two cases.

Works on vLLM's EngineCore as it is, by attribute: nothing here imports vLLM. The plugin's own tests look at the same
attributes of its scheduler and model runner.
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
    """Tkv and queues from the scheduler, blocks from the model runner, which keeps the account of them."""
    scheduler, runner = core.scheduler, model_runner(core)
    return Seen(
        scheduler.tkv,
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(runner.kv_cache_manager),
        sum(runner.req_ids2num_reserved_blocks.values()),
    )


def decision(core: Any, scheduled: Any) -> Decision:  # noqa: ARG001
    """A step with a request that is new is a prefill: prefills are whole."""
    if not scheduled.total_num_scheduled_tokens:
        return IDLE
    return Decision("prefill" if scheduled.scheduled_new_reqs else "decode")


def unavailable(setup: EngineSetup) -> str | None:
    """Why no engine of that setup starts here, or None."""
    return without_card(setup)


def request_fields(processor: Any) -> dict[str, Any]:
    """What a request of the core has beside its prompt and parameters."""
    return {"eos_token_id": end_of_text(processor)}


def end_of_text(processor: Any) -> int | None:
    """The token that ends a text, as the input processor gives it to requests."""
    return processor.input_preprocessor.get_eos_token_id()  # type: ignore[no-any-return]


def shape(setup: EngineSetup) -> EngineSetup:
    """An engine serves the setup that it was started for."""
    return setup


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:  # noqa: ARG001
    """What vLLM's LLM is told for this plugin alone."""
    return {"enable_prefix_caching": False}


def engine_environment(setup: EngineSetup) -> dict[str, str]:  # noqa: ARG001
    """What an engine reads from the environment of its options."""
    return {}


def server_command(model: str, setup: EngineSetup) -> list[str]:  # noqa: ARG001
    """``vllm serve``, where vLLM is installed."""
    return [str(Path(sys.executable).with_name("vllm")), "serve", model]


def built(core: Any) -> SchedulingLimits:
    """The limits it starts with: to be asked before anything is tightened."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.model_config.max_model_len,
        scheduler.max_num_running_reqs,
        model_runner(core).n_blocks,
        int(scheduler.max_batch_tkv_limit),
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:  # noqa: ARG001
    """Hold an idle engine to limits that are all said, and give it a fresh pool of blocks.

    The plugin's tests set context, batch, batch x tkv and blocks like this. Two things they leave: the scheduler keeps
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
