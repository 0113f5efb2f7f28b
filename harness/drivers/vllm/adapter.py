"""Types and helpers that the adapters of all plugin versions share."""

from dataclasses import fields
from importlib.util import find_spec
from typing import Any, NamedTuple

from harness.types import EngineSetup, SchedulingLimits


class Seen(NamedTuple):
    """The observable state between two steps, with the engine's request ids, and block ids, oldest first.

    ``blocks`` has every request that holds blocks, ``reserved`` is the number of reserved blocks, None without
    reservations. ``paused`` and ``hits`` (prefix blocks that were not computed again) are None if the plugin has
    neither.
    """

    tkv: int | None
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    blocks: dict[str, tuple[int, ...]]
    reserved: int | None
    paused: tuple[str, ...] | None = None
    hits: dict[str, int] | None = None


class Decision(NamedTuple):
    """The scheduler's output for a step, with the engine's request ids.

    ``kind`` as in StepRecord. The other fields belong to the token-budget scheduler, None elsewhere: ``scheduled``
    holds (id, tokens) in order, ``preempted`` the first evicted first, ``hits`` (id, tokens found) of admitted requests
    with a hit.
    """

    kind: str = "idle"
    scheduled: tuple[tuple[str, int], ...] | None = None
    preempted: tuple[str, ...] | None = None
    hits: tuple[tuple[str, int], ...] | None = None


ANY_TOKEN = 5
"""The sampled token if no model runs. It ends no request."""

IDLE = Decision()
"""No step yet, or a step with nothing to do, for schedulers without columns of single steps."""


def model_runner(core: Any) -> Any:
    """Return the model runner of the only worker, which is in this process."""
    return core.model_executor.driver_worker.worker.model_runner


def names(requests: Any) -> tuple[str, ...]:
    """Return the ids of vLLM's requests, in order."""
    return tuple(request.request_id for request in requests)


def held_blocks(manager: Any) -> dict[str, tuple[int, ...]]:
    """Return the ids of the blocks that each request holds, from one of vLLM's block managers.

    Its dictionary is a defaultdict, so it must be read without creating entries.
    """
    held = manager.req_to_blocks.items()
    return {name: tuple(block.block_id for block in blocks) for name, blocks in held if blocks}


def use_config(vllm_config: Any) -> None:
    """Set the engine configuration that the plugin's entry point reads.

    It reads the configuration from the platform's class, where the engine that was started last has set it.
    """
    from vllm.platforms import current_platform

    current_platform.__class__._config = vllm_config
    type(current_platform)._config = vllm_config


def leave_out_the_model(core: Any) -> None:
    """Replace the model's forward: scheduler and model runner work unchanged, with the same token each time."""
    vocabulary = core.vllm_config.model_config.get_vocab_size()
    logits = same_logits(core.vllm_config.scheduler_config.max_num_seqs, vocabulary)

    def forward(**inputs: Any) -> Any:
        return logits[: inputs["positions"].shape[0]].clone()

    model_runner(core).model.forward = forward


def same_logits(rows: int, vocabulary: int) -> Any:
    """Return logits of shape [rows, vocabulary] for which every row has the same token, which ends no request."""
    import torch

    logits = torch.zeros(rows, vocabulary)
    logits[:, ANY_TOKEN] = 1.0
    return logits


def without_card(setup: EngineSetup) -> str | None:
    """Return why the card for a setup is not available, or None. Imports nothing."""
    if setup.backend == "sendnn" and find_spec("torch_sendnn") is None:
        return "backend sendnn needs a Spyre card and torch_sendnn, which is not installed here"
    return None


def resolved(limits: SchedulingLimits, most: SchedulingLimits) -> SchedulingLimits:
    """Return the limits with missing values taken from ``most``, the limits with which the engine was built.

    Raises ValueError if a limit is below 1 or above that of the engine.
    """
    for field in fields(limits):
        value, bound = getattr(limits, field.name), getattr(most, field.name)
        if value is not None and not 1 <= value <= bound:
            raise ValueError(f"{field.name} {value} is not between 1 and the {bound} the engine was built with")
    return SchedulingLimits(*(getattr(limits, f.name) or getattr(most, f.name) for f in fields(limits)))
