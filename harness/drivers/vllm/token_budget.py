"""vLLM's own scheduler, which no plugin replaces: read after a step, tightened between two cases.

Works on vLLM's EngineCore as it is, by attribute. What a step did is read from its SchedulerOutput, queues from the
scheduler, blocks from its KVCacheManager. It is synchronous: a step is scheduled, runs, and is recorded.
"""

import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.drivers.vllm.adapter import Decision, Seen, held_blocks, model_runner, names, same_logits
from harness.drivers.vllm.versions import number_of_vllm, release
from harness.types import (
    BLOCK_SIZE,
    EngineSetup,
    SchedulingLimits,
    TokenBudgetRules,
    TokenBudgetSetup,
    blocks_for,
)

VOCABULARY_WITHOUT_A_MODEL = 16_384
"""Tokens that there are where no model runs."""
IDLE = Decision("idle", (), (), ())
"""A step with nothing to schedule, and what is seen before the first one."""
CACHE_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""GiB of memory that vLLM's CPU back end may use for the cache; of it no more is taken than the blocks need."""
RULES_OF_0_32_FROM = (0, 32)
"""The first version whose scheduler goes by the rules of 0.32. Between 0.27 and it nobody looked."""


def observe(core: Any) -> Seen:
    """Nothing is reserved, and there is no tkv."""
    scheduler = core.scheduler
    return Seen(
        0,
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(scheduler.kv_cache_manager.coordinator.single_type_managers[0]),
        None,
    )


def decision(core: Any, scheduled: Any) -> Decision:
    """What a step computes, of its SchedulerOutput, which counts computed tokens as they were before the step.

    A request decodes where it ran before and computes the last token that it has, that token alone.
    """
    tokens: Mapping[str, int] = scheduled.num_scheduled_tokens
    cached = scheduled.scheduled_cached_reqs
    computed = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    found = {new.req_id: new.num_computed_tokens for new in scheduled.scheduled_new_reqs}
    found |= {name: computed[name] for name in cached.resumed_req_ids}
    kinds = set()
    for name, count in tokens.items():
        last = name not in found and count == 1 and computed[name] + 1 == core.scheduler.requests[name].num_tokens
        kinds.add("decode" if last else "prefill")
    return Decision(
        "mixed" if len(kinds) == 2 else next(iter(kinds), "idle"),
        tuple(tokens.items()),
        _preempted(core.scheduler, scheduled.preempted_req_ids or ()),
        tuple((name, found[name]) for name in tokens if found.get(name)),
    )


def _preempted(scheduler: Any, preempted: Any) -> tuple[str, ...]:
    """Those names, the first evicted first: each went to the front of the queue, and nothing has started since."""
    return tuple(name for name in reversed(names(scheduler.waiting)) if name in preempted)


def rules_of(version: str | None) -> TokenBudgetRules:
    """Which rules that version of vLLM goes by."""
    return "0.32" if release(version) >= RULES_OF_0_32_FROM else "0.27"


def unavailable(setup: EngineSetup) -> str | None:
    """Why no engine of that setup starts here, or None."""
    if setup.backend == "sendnn":
        return "backend sendnn: vLLM runs here without a Spyre plugin; on cards it runs with spyre-inference"
    return other_rules(setup)


def other_rules(setup: EngineSetup) -> str | None:
    """Why this vLLM goes by other rules than a setup asks for, or None.

    What rules say of the order in which blocks are freed shows in no step table, only what they say of the threshold.
    """
    options, version = options_of(setup), number_of_vllm()
    if options.rules == rules_of(version) or not options.long_prefill_token_threshold:
        return None
    return f"rules {options.rules} of long_prefill_token_threshold: vLLM {version} has those of {rules_of(version)}"


def request_fields(processor: Any) -> dict[str, Any]:  # noqa: ARG001
    """What a request of the core has beside its prompt and parameters: nothing, parameters know the end of text."""
    return {}


def end_of_text(processor: Any) -> int | None:
    """The token that ends a text, as the input processor gives it to requests."""
    return processor.renderer.get_eos_token_id()  # type: ignore[no-any-return]


def options_of(setup: EngineSetup) -> TokenBudgetSetup:
    """The options of a setup, all by default where it has none."""
    return setup.options if isinstance(setup.options, TokenBudgetSetup) else TokenBudgetSetup()


def shape(setup: EngineSetup) -> EngineSetup:
    """An engine with the widest options: its scheduler reads them at every step, so ``tighten`` can set others."""
    budget = max(TokenBudgetSetup().max_num_batched_tokens, options_of(setup).max_num_batched_tokens)
    return replace(setup, options=TokenBudgetSetup(max(budget, setup.max_model_len)))


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """What vLLM's LLM is started with for its own scheduler and its CPU back end.

    Where the number of blocks is not given there are those of a full batch, and the null block.
    """
    full = setup.max_num_seqs * blocks_for(setup.max_model_len)
    return {
        **common_arguments(setup),
        "num_gpu_blocks_override": full + 1 if setup.num_blocks is None else setup.num_blocks,
        "use_tqdm_on_load": False,
    }


def common_arguments(setup: EngineSetup) -> dict[str, Any]:
    """What an engine in this process and a server are started with."""
    return {
        **scheduling_arguments(setup),
        "dtype": "float32",
        "block_size": BLOCK_SIZE,
        "enforce_eager": setup.backend == "eager",
    }


def scheduling_arguments(setup: EngineSetup) -> dict[str, Any]:
    """The options of its scheduler.

    vLLM starts with no budget below the batch, nor, without chunks, below the context, be the cases as small as they
    may: there the budget is as large as it takes, and ``tighten`` sets the one that was asked for.
    """
    options = options_of(setup)
    smallest = max(setup.max_num_seqs, 1 if options.enable_chunked_prefill else setup.max_model_len)
    return {
        "max_num_batched_tokens": max(options.max_num_batched_tokens, smallest),
        "enable_chunked_prefill": options.enable_chunked_prefill,
        "enable_prefix_caching": options.enable_prefix_caching,
        "long_prefill_token_threshold": options.long_prefill_token_threshold,
    }


def engine_environment(setup: EngineSetup) -> dict[str, str]:  # noqa: ARG001
    """What an engine reads from the environment of its options."""
    return {CACHE_SPACE: os.environ.get(CACHE_SPACE, "1")}


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """vLLM's server as a module: the command ``vllm`` asks for its own version under its usual name, which vllm-cpu
    does not have.
    """
    return command_of_server(model, common_arguments(setup))


def command_of_server(model: str, arguments: Mapping[str, Any]) -> list[str]:
    """The same for these arguments of an engine."""
    flags = [flag for name, value in arguments.items() for flag in _flag(name, value)]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *flags]


def _flag(name: str, value: object) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def leave_out_the_model(core: Any) -> None:
    """From now on the model's forward is left out: scheduler and model runner do what they do, on the same token each
    time. Tokens that a case gives need not be of the model's vocabulary.
    """
    vocabulary = max(core.vllm_config.model_config.get_vocab_size(), VOCABULARY_WITHOUT_A_MODEL)
    logits = same_logits(core.scheduler.max_num_running_reqs, vocabulary)
    model = model_runner(core).model
    model.forward = lambda **inputs: logits.new_zeros(inputs["positions"].shape[0], 1)
    model.compute_logits = lambda hidden: logits[: hidden.shape[0]].clone()


def built(core: Any) -> SchedulingLimits:
    """The limits it starts with: to be asked before anything is tightened."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.max_model_len, scheduler.max_num_running_reqs, scheduler.kv_cache_config.num_blocks - 1
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
    """Hold an idle engine to limits that are all said, with an empty cache of so many blocks, in the order of ids.

    The options are set as well: the engine may have been started with wider ones.
    """
    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "limits that are all said"
    scheduler.vllm_config.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    options = options_of(setup)
    scheduler.max_num_scheduled_tokens = options.max_num_batched_tokens
    scheduler.scheduler_config.enable_chunked_prefill = options.enable_chunked_prefill
    scheduler.scheduler_config.long_prefill_token_threshold = options.long_prefill_token_threshold
    scheduler.cache_config.enable_prefix_caching = options.enable_prefix_caching
    scheduler.kv_cache_config.num_blocks = blocks + 1
    manager = scheduler.kv_cache_manager
    arguments = {
        "kv_cache_config": scheduler.kv_cache_config,
        "max_model_len": scheduler.max_model_len,
        "max_in_flight_tokens": scheduler.vllm_config.max_in_flight_tokens,
        "enable_caching": scheduler.cache_config.enable_prefix_caching,
        "log_stats": scheduler.log_stats,
        "scheduler_block_size": scheduler.block_size,
        "hash_block_size": scheduler.hash_block_size,
        "watermark": scheduler.scheduler_config.watermark,
    }
    known = inspect.signature(type(manager).__init__).parameters  # versions differ in what they take
    manager.__init__(**{name: value for name, value in arguments.items() if name in known})
