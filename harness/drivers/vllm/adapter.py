"""What every scheduler of the plugin shows of itself, and what of it is the same for all."""

from dataclasses import fields
from importlib.util import find_spec
from typing import Any, NamedTuple

from harness.types import EngineSetup, SchedulingLimits


class Seen(NamedTuple):
    """What can be seen between two steps, requests by the engine's names; blocks in ids, oldest first.

    ``blocks`` are of every request that holds any, ``reserved`` is how many are. ``paused`` and ``hits`` (blocks of a
    prefix that were not computed again) are None where the plugin has neither. ``reserved`` is None where nothing is
    reserved.
    """

    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    blocks: dict[str, tuple[int, ...]]
    reserved: int | None
    paused: tuple[str, ...] | None = None
    hits: dict[str, int] | None = None


class Decision(NamedTuple):
    """What a step was scheduled to do, requests by the engine's names.

    ``kind`` as in StepRecord. The other fields are those of the token-budget scheduler, None elsewhere: ``scheduled``
    as (name, tokens) in order, ``preempted`` the first evicted first, ``hits`` as (name, tokens found) of those that
    were admitted and found any.
    """

    kind: str = "idle"
    scheduled: tuple[tuple[str, int], ...] | None = None
    preempted: tuple[str, ...] | None = None
    hits: tuple[tuple[str, int], ...] | None = None


ANY_TOKEN = 5
"""What comes where no model runs: a token that ends nothing."""

IDLE = Decision()
"""No step yet, or one with nothing to do, where no column belongs to one step alone."""


def model_runner(core: Any) -> Any:
    """The model runner of the one worker, which is in this process."""
    return core.model_executor.driver_worker.worker.model_runner


def names(requests: Any) -> tuple[str, ...]:
    """The names of vLLM's requests, in their order."""
    return tuple(request.request_id for request in requests)


def held_blocks(manager: Any) -> dict[str, tuple[int, ...]]:
    """The ids of the blocks that each request holds, from one of vLLM's managers of blocks.

    It has a dictionary that makes entries for whatever it is asked for: it must be read without asking.
    """
    held = manager.req_to_blocks.items()
    return {name: tuple(block.block_id for block in blocks) for name, blocks in held if blocks}


def use_config(vllm_config: Any) -> None:
    """Make this engine's configuration the one that the plugin's entry point reads.

    It reads it from the platform's class, where the engine that was started last left its own.
    """
    from vllm.platforms import current_platform

    current_platform.__class__._config = vllm_config
    type(current_platform)._config = vllm_config


def leave_out_the_model(core: Any) -> None:
    """From now on the model's forward is left out: scheduler and model runner do what they do, on the same token
    each time.
    """
    vocabulary = core.vllm_config.model_config.get_vocab_size()
    logits = same_logits(core.vllm_config.scheduler_config.max_num_seqs, vocabulary)

    def forward(**inputs: Any) -> Any:
        return logits[: inputs["positions"].shape[0]].clone()

    model_runner(core).model.forward = forward


def same_logits(rows: int, vocabulary: int) -> Any:
    """Logits of shape [rows, vocabulary] by which the same token comes everywhere, one that ends nothing."""
    import torch

    logits = torch.zeros(rows, vocabulary)
    logits[:, ANY_TOKEN] = 1.0
    return logits


def without_card(setup: EngineSetup) -> str | None:
    """Why the card that a setup asks for is not here, or None. Raises nothing: nothing is imported."""
    if setup.backend == "sendnn" and find_spec("torch_sendnn") is None:
        return "backend sendnn needs a Spyre card and torch_sendnn, which is not installed here"
    return None


def resolved(limits: SchedulingLimits, most: SchedulingLimits) -> SchedulingLimits:
    """Limits with what they leave open taken from ``most``, which the engine was built with.

    Raises ValueError where a limit is below 1 or beyond what the engine was built with: limits tighten.
    """
    for field in fields(limits):
        asked, bound = getattr(limits, field.name), getattr(most, field.name)
        if asked is not None and not 1 <= asked <= bound:
            raise ValueError(f"{field.name} {asked} is not between 1 and the {bound} the engine was built with")
    return SchedulingLimits(*(getattr(limits, f.name) or getattr(most, f.name) for f in fields(limits)))
