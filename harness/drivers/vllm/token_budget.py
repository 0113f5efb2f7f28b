"""Adapter for vLLM's own scheduler, without a plugin's: reads state after a step, sets limits between cases.

Accesses attributes of vLLM's EngineCore. The results of a step are read from its SchedulerOutput, queues from the
scheduler, blocks from its KVCacheManager. The core is synchronous: a step is scheduled, run, and recorded.
"""

import inspect
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.drivers.vllm.adapter import Decision, Seen, held_blocks, model_runner, names, same_logits
from harness.drivers.vllm.requests import STRUCTURED_BY
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
"""Size of the vocabulary if no model runs."""
IDLE = Decision("idle", (), (), ())
"""A step with nothing to schedule, and the state before the first step."""
CACHE_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""Variable with the GiB of memory that vLLM's CPU backend may use for the cache.

It allocates only what the blocks need.
"""
THREADS = "VLLM_CPU_OMP_THREADS_BIND"
"""Variable with the cores that the threads of each worker are bound to.

By default they are bound by NUMA node: several engines then share a core, and two workers do not start on one node.
"""
RULES_OF_0_32_FROM = (0, 32)
"""The first version whose scheduler is taken to follow the rules of 0.32.

Versions between 0.27 and 0.32 are not checked.
"""


def observe(core: Any) -> Seen:
    """Return the observable state, without reservations and tkv."""
    scheduler = core.scheduler
    return Seen(
        None,
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(scheduler.kv_cache_manager.coordinator.single_type_managers[0]),
        None,
    )


def decision(core: Any, scheduled: Any) -> Decision:
    """Return the decision of a step, from its SchedulerOutput, which has the numbers of computed tokens before the
    step.

    A request decodes if it ran before and computes only the last token that it has.
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
    """Return the preempted request ids, the first evicted first: each was put at the front of the queue."""
    return tuple(name for name in reversed(names(scheduler.waiting)) if name in preempted)


def rules_of(version: str | None) -> TokenBudgetRules:
    """Return the rules that a version of vLLM follows."""
    return "0.32" if release(version) >= RULES_OF_0_32_FROM else "0.27"


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine of that setup can't be started here, or None."""
    if setup.backend == "sendnn":
        return "backend sendnn: vLLM runs here without a Spyre plugin; on cards it runs with spyre-inference"
    return other_rules(setup)


def other_rules(setup: EngineSetup) -> str | None:
    """Return why this vLLM does not follow the rules of a setup, or None.

    The rules about the order in which blocks are freed are not visible in step tables, only those about the threshold.
    """
    options, version = options_of(setup), number_of_vllm()
    if options.rules == rules_of(version) or not options.long_prefill_token_threshold:
        return None
    return f"rules {options.rules} of long_prefill_token_threshold: vLLM {version} has those of {rules_of(version)}"


def request_fields(processor: Any) -> dict[str, Any]:  # noqa: ARG001
    """Return additional fields of core requests: none, because the parameters contain the EOS token."""
    return {}


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that the input processor adds to requests."""
    return processor.renderer.get_eos_token_id()  # type: ignore[no-any-return]


def options_of(setup: EngineSetup) -> TokenBudgetSetup:
    """Return the options of a setup, with defaults if it has none."""
    return setup.options if isinstance(setup.options, TokenBudgetSetup) else TokenBudgetSetup()


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup with the widest options.

    The scheduler reads them at every step, so ``tighten`` can set others.
    """
    budget = max(TokenBudgetSetup().max_num_batched_tokens, options_of(setup).max_num_batched_tokens)
    return replace(setup, options=TokenBudgetSetup(max(budget, setup.max_model_len)))


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return arguments of vLLM's LLM for its own scheduler and its CPU backend.

    By default there are the blocks of a full batch, and the null block.
    """
    full = setup.max_num_seqs * blocks_for(setup.max_model_len)
    return {
        **common_arguments(setup),
        "num_gpu_blocks_override": full + 1 if setup.num_blocks is None else setup.num_blocks,
        "structured_outputs_config": {"backend": STRUCTURED_BY},
        "use_tqdm_on_load": False,
    }


def common_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return arguments that an engine in this process and a server share."""
    return {
        **scheduling_arguments(setup),
        "dtype": "float32",
        "block_size": BLOCK_SIZE,
        "enforce_eager": setup.backend == "eager",
    }


def scheduling_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the scheduler's options.

    vLLM requires a budget of at least the batch size and, without chunks, the context. If the setup has a smaller
    budget, the engine is started with the minimum, and ``tighten`` sets the smaller one.
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
    """Return environment variables with the options of an engine."""
    return {name: os.environ.get(name, value) for name, value in ((CACHE_SPACE, "1"), (THREADS, "nobind"))}


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command of vLLM's server as a module.

    The command ``vllm`` looks up the version of the package ``vllm``, which does not exist if vllm-cpu is installed.
    """
    structured = json.dumps({"backend": STRUCTURED_BY})
    return command_of_server(model, {**common_arguments(setup), "structured_outputs_config": structured})


def command_of_server(model: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the command of the server with these engine arguments."""
    flags = [flag for name, value in arguments.items() for flag in _flag(name, value)]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *flags]


def _flag(name: str, value: object) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def leave_out_the_model(core: Any) -> None:
    """Replace the model's forward: scheduler and model runner work unchanged, with the same token each time.

    Tokens that a case gives need not be in the model's vocabulary.
    """
    vocabulary = max(core.vllm_config.model_config.get_vocab_size(), VOCABULARY_WITHOUT_A_MODEL)
    logits = same_logits(core.scheduler.max_num_running_reqs, vocabulary)
    model = model_runner(core).model
    model.forward = lambda **inputs: logits.new_zeros(inputs["positions"].shape[0], 1)
    model.compute_logits = lambda hidden: logits[: hidden.shape[0]].clone()


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was built. Must be called before ``tighten``."""
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.max_model_len, scheduler.max_num_running_reqs, scheduler.kv_cache_config.num_blocks - 1
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
    """Set the limits of an idle engine, all given, with an empty cache of so many blocks, in the order of ids.

    The options are set as well: the engine may have been started with wider ones.
    """
    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "all limits must be given"
    scheduler.vllm_config.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    if hasattr(scheduler, "max_num_active_reqs"):  # 0.32 admits requests by a copy of it
        scheduler.max_num_active_reqs = limits.max_num_seqs
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
    known = inspect.signature(type(manager).__init__).parameters  # the parameters depend on the version
    manager.__init__(**{name: value for name, value in arguments.items() if name in known})
