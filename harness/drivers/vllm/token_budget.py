"""The adapter for vLLM without a plugin, with vLLM's own scheduler. ``spyre_inference.py`` is based on it.

It reads the state of an engine after each step. Before a case, it sets the case's limits (``max_model_len``,
``max_num_seqs`` and the number of blocks) and scheduler options. It uses attributes of vLLM's EngineCore. The scheduled
requests of a step are read from the step's SchedulerOutput, queues from the scheduler, and blocks from the
KVCacheManager. The core runs each step to its end before it schedules the next one.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.drivers.vllm.adapter import Decision, Seen, held_blocks, model_runner, names, same_logits
from harness.drivers.vllm.api import create_again
from harness.drivers.vllm.requests import STRUCTURED_BY
from harness.drivers.vllm.versions import number_of_vllm, release
from harness.types import (
    EngineSetup,
    SchedulingLimits,
    TokenBudgetRules,
    TokenBudgetSetup,
    blocks_for,
)

VOCABULARY_WITHOUT_A_MODEL = 16_384
"""Minimum size of the vocabulary if the model does not run."""
IDLE = Decision("idle", (), (), ())
"""The decision of a step in which no request is scheduled, and before the first step."""
CACHE_SPACE = "VLLM_CPU_KVCACHE_SPACE"
"""Environment variable with the memory, in GiB, that vLLM's CPU backend may use for the KV cache.

vLLM allocates only as much memory as the blocks need.
"""
THREADS = "VLLM_CPU_OMP_THREADS_BIND"
"""Environment variable with the cores to which vLLM binds the threads of each worker.

By default vLLM binds the threads of a worker to the cores of a NUMA node. With this default, several engines would run
on the same cores, and two workers could not be started on a machine with one node.
"""
RULES_OF_0_32_FROM = (0, 32)
"""Versions of vLLM from this one on are assumed to have the scheduling rules of 0.32.

No version between 0.27 and 0.32 was checked.
"""


def observe(core: Any) -> Seen:
    """Return the observable state between two steps. Reserved blocks and tkv are None: this scheduler has neither."""
    scheduler = core.scheduler
    return Seen(
        None,
        names(scheduler.waiting),
        names(scheduler.running),
        held_blocks(scheduler.kv_cache_manager.coordinator.single_type_managers[0]),
        None,
    )


def decision(core: Any, scheduled: Any) -> Decision:
    """Return what the scheduler decided for a step. ``scheduled`` is the SchedulerOutput of the step.

    A request decodes in the step if it was running before the step, and the step computes only the last of the tokens
    that the request has so far. Otherwise the request is in its prefill.
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
    """Return the ids in ``preempted``, which is a set, in the order in which the scheduler preempted the requests.

    The scheduler puts each preempted request at the front of its waiting queue, so the queue has them in reverse order.
    """
    return tuple(name for name in reversed(names(scheduler.waiting)) if name in preempted)


def rules_of(version: str | None) -> TokenBudgetRules:
    """Return the scheduling rules that a version of vLLM follows, those of 0.27 or those of 0.32.

    A case selects the rules with its option ``rules``.
    """
    return "0.32" if release(version) >= RULES_OF_0_32_FROM else "0.27"


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    if setup.backend == "sendnn":
        return "backend sendnn: vLLM needs the plugin spyre-inference to run on cards, and it is not installed"
    return other_rules(setup)


def other_rules(setup: EngineSetup) -> str | None:
    """Return why the installed vLLM can't run a case with this setup: ``rules`` names the rules of another version.

    Return None if the case can be run. The rules of vLLM 0.27 and 0.32 differ in step tables only if
    ``long_prefill_token_threshold`` is set. They also differ in the order in which blocks are freed, but step tables do
    not show this.
    """
    options, version = options_of(setup), number_of_vllm()
    if options.rules == rules_of(version) or not options.long_prefill_token_threshold:
        return None
    what = f"the case needs the rules of vLLM {options.rules} for long_prefill_token_threshold"
    return f"{what}, but vLLM {version} is installed, which has the rules of {rules_of(version)}"


def options_of(setup: EngineSetup) -> TokenBudgetSetup:
    """Return the options of ``setup`` if they are for vLLM's own scheduler, otherwise the scheduler's defaults."""
    return setup.options if isinstance(setup.options, TokenBudgetSetup) else TokenBudgetSetup()


def shape(setup: EngineSetup) -> EngineSetup:
    """Return the setup with which to start an engine: the same setup with the least restrictive options.

    The scheduler reads its options at every step, so ``tighten`` can set more restrictive options later. The exception
    is the block size, which an engine has from its start.
    """
    budget = max(TokenBudgetSetup().max_num_batched_tokens, options_of(setup).max_num_batched_tokens)
    options = TokenBudgetSetup(max(budget, setup.max_model_len), block_size=setup.block_size)
    return replace(setup, options=options)


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for its own scheduler and its CPU backend.

    If ``num_blocks`` of the setup is None, the engine gets enough blocks for a full batch of the longest sequences, and
    vLLM's null block in addition.
    """
    full = setup.max_num_seqs * blocks_for(setup.max_model_len, setup.block_size)
    return {
        **common_arguments(setup),
        "num_gpu_blocks_override": full + 1 if setup.num_blocks is None else setup.num_blocks,
        "structured_outputs_config": {"backend": STRUCTURED_BY},
        "use_tqdm_on_load": False,
    }


def common_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the engine arguments of vLLM that are the same for an engine in this process and for vLLM's server."""
    return {
        **scheduling_arguments(setup),
        "dtype": "float32",
        "block_size": setup.block_size,
        "enforce_eager": setup.backend == "eager",
    }


def scheduling_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the engine arguments of vLLM that set the scheduler's options.

    vLLM requires that ``max_num_batched_tokens`` is at least ``max_num_seqs`` and, without chunked prefill, at least
    ``max_model_len``. If the setup has a smaller value, the engine is started with the smallest value that vLLM
    accepts. Later, ``tighten`` sets the value of the setup.
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
    """Return two environment variables of vLLM's CPU backend: the memory for the KV cache, and the cores for threads.

    By default, threads are not bound to cores. If the user has set one of the two variables, its value is kept.
    """
    return {name: os.environ.get(name, value) for name, value in ((CACHE_SPACE, "1"), (THREADS, "nobind"))}


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command that starts vLLM's server with ``python -m``.

    The command ``vllm`` looks up the version of the package ``vllm``, so it fails if only the package vllm-cpu is
    installed.
    """
    structured = json.dumps({"backend": STRUCTURED_BY})
    return command_of_server(model, {**common_arguments(setup), "structured_outputs_config": structured})


def command_of_server(model: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the command that starts vLLM's server. ``arguments`` are engine arguments, such as ``block_size``."""
    flags = [flag for name, value in arguments.items() for flag in _flag(name, value)]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *flags]


def _flag(name: str, value: object) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def leave_out_the_model(core: Any) -> None:
    """Replace the model's forward, so that every generated token is ANY_TOKEN. Scheduler and model runner still run.

    The vocabulary has at least VOCABULARY_WITHOUT_A_MODEL tokens, because the token ids in a case need not be in the
    model's vocabulary.
    """
    vocabulary = max(core.vllm_config.model_config.get_vocab_size(), VOCABULARY_WITHOUT_A_MODEL)
    logits = same_logits(core.scheduler.max_num_running_reqs, vocabulary)
    model = model_runner(core).model
    model.forward = lambda **inputs: logits.new_zeros(inputs["positions"].shape[0], 1)
    model.compute_logits = lambda hidden: logits[: hidden.shape[0]].clone()


def built(core: Any) -> SchedulingLimits:
    """Return the limits with which the engine was started. Must be called before ``tighten``, which overwrites them.

    ``max_batch_tkv_limit`` is None, because this scheduler has no tkv.
    """
    scheduler = core.scheduler
    return SchedulingLimits(
        scheduler.max_model_len, scheduler.max_num_running_reqs, scheduler.kv_cache_config.num_blocks - 1
    )


def tighten(core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
    """Set the limits and the scheduler options of an idle engine. The options are those of ``setup``.

    No limit may be None.

    The engine gets an empty KV cache with ``available_blocks`` blocks, which are used in the order of their ids.
    """
    scheduler, blocks = core.scheduler, limits.available_blocks
    assert blocks is not None, "no limit may be None"
    scheduler.vllm_config.model_config.max_model_len = scheduler.max_model_len = limits.max_model_len
    scheduler.scheduler_config.max_num_seqs = scheduler.max_num_running_reqs = limits.max_num_seqs
    if hasattr(scheduler, "max_num_active_reqs"):  # vLLM 0.32 has a copy of max_num_seqs, by which it admits requests.
        scheduler.max_num_active_reqs = limits.max_num_seqs
    options = options_of(setup)
    scheduler.max_num_scheduled_tokens = options.max_num_batched_tokens
    scheduler.scheduler_config.enable_chunked_prefill = options.enable_chunked_prefill
    scheduler.scheduler_config.long_prefill_token_threshold = options.long_prefill_token_threshold
    scheduler.cache_config.enable_prefix_caching = options.enable_prefix_caching
    scheduler.kv_cache_config.num_blocks = blocks + 1
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
    create_again(scheduler.kv_cache_manager, arguments)
    forget_allowed_tokens(model_runner(core))


def forget_allowed_tokens(runner: Any) -> None:
    """Remove the masks of ``allowed_token_ids`` of an idle engine, which creates them again when it needs them.

    If a request moves to another row of the batch, vLLM 0.27 leaves its mask in the old row, and applies it to later
    requests without allowed tokens. A case that tests for this bug fails. Cases that run later on the same engine must
    not fail because of it.
    """
    batch = getattr(runner, "input_batch", None)
    for name in ("allowed_token_ids_mask", "allowed_token_ids_mask_cpu_tensor"):
        if hasattr(batch, name):
            setattr(batch, name, None)
