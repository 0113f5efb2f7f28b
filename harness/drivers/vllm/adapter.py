"""Types and functions that the adapters of several plugins use."""

from dataclasses import fields
from importlib.util import find_spec
from typing import Any, NamedTuple

from harness.types import EngineSetup, SchedulingLimits


class Seen(NamedTuple):
    """The observable state of an engine between two steps. Requests are named by vLLM's request ids.

    ``blocks`` has the ids of the blocks that each request holds, the oldest first. ``reserved`` is the number of
    reserved blocks. ``hits`` has the number of prefix blocks of each request that were found in the cache.
    ``reserved``, ``paused`` and ``hits`` are None if the scheduler does not have them. ``counted`` is whether the
    driver reports the number of used blocks. It is False at times when the release of the plugin has allocated or freed
    other blocks than docs/scheduling-rules-chunked.md says.
    """

    tkv: int | None
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    blocks: dict[str, tuple[int, ...]]
    reserved: int | None
    paused: tuple[str, ...] | None = None
    hits: dict[str, int] | None = None
    counted: bool = True


class Decision(NamedTuple):
    """What the scheduler decided for a step. Requests are named by vLLM's request ids.

    ``kind`` is the kind of the step, such as ``prefill``. ``scheduled``, ``preempted`` and ``hits`` mean the same as
    the columns of ``harness.types.StepRow``. They are None unless the engine has the token-budget scheduler.
    """

    kind: str = "idle"
    scheduled: tuple[tuple[str, int], ...] | None = None
    preempted: tuple[str, ...] | None = None
    hits: tuple[tuple[str, int], ...] | None = None


ANY_TOKEN = 5
"""The token that all requests generate if the model does not run. It is not a stop token.

A case can give other tokens to generate (``simulated_tokens``).
"""

IDLE = Decision()
"""The decision before the first step, and in a step that schedules no request. Not for the token-budget scheduler."""


def model_runner(core: Any) -> Any:
    """Return the model runner of the engine's only worker, which runs in this process."""
    return core.model_executor.driver_worker.worker.model_runner


def forget_bad_words(runner: Any) -> None:
    """Remove the bad words of earlier requests from the batch in which the plugins compute prefills.

    The plugins never remove bad words, so the bad words of a request also apply to later prefills. A case that tests
    for this bug fails. Cases that run later on the same engine must not fail because of it.
    """
    if hasattr(runner, "prefill_batch"):
        runner.prefill_batch.bad_words_token_ids.clear()


def names(requests: Any) -> tuple[str, ...]:
    """Return the ids of vLLM's Request objects, in order."""
    return tuple(request.request_id for request in requests)


def held_blocks(manager: Any) -> dict[str, tuple[int, ...]]:
    """Return the ids of the blocks that each request holds, from one of vLLM's single-type KV cache managers.

    The manager's ``req_to_blocks`` is a defaultdict, which must be read without creating entries.
    """
    held = manager.req_to_blocks.items()
    return {name: tuple(block.block_id for block in blocks) for name, blocks in held if blocks}


def use_config(vllm_config: Any) -> None:
    """Make the plugin use ``vllm_config``, the configuration of the engine that runs the next case.

    The plugin checks requests against the configuration in its platform class. Without this call, the class would have
    the configuration of the engine that was started last.
    """
    from vllm.platforms import current_platform

    current_platform.__class__._config = vllm_config
    type(current_platform)._config = vllm_config


def leave_out_the_model(core: Any) -> None:
    """Replace the model's forward, so that every generated token is ANY_TOKEN. Scheduler and model runner still run."""
    vocabulary = core.vllm_config.model_config.get_vocab_size()
    logits = same_logits(core.vllm_config.scheduler_config.max_num_seqs, vocabulary)

    def forward(**inputs: Any) -> Any:
        return logits[: inputs["positions"].shape[0]].clone()

    model_runner(core).model.forward = forward


def same_logits(rows: int, vocabulary: int) -> Any:
    """Return logits ``[rows, vocabulary]`` in which ANY_TOKEN is the most likely token of every row."""
    import torch

    logits = torch.zeros(rows, vocabulary)
    logits[:, ANY_TOKEN] = 1.0
    return logits


def without_card(setup: EngineSetup) -> str | None:
    """Return why a setup that needs a card can't run on this machine, as one sentence.

    Return None if the setup needs no card, or if torch_sendnn is installed.
    """
    if setup.backend == "sendnn" and find_spec("torch_sendnn") is None:
        return "backend sendnn needs a Spyre card and torch_sendnn, but torch_sendnn is not installed"
    return None


def resolved(limits: SchedulingLimits, most: SchedulingLimits) -> SchedulingLimits:
    """Return ``limits`` with every None replaced by the value in ``most``, the limits of the engine at its start.

    Raises ValueError if a limit is below 1, or above the limit in ``most``.
    """
    for field in fields(limits):
        value, bound = getattr(limits, field.name), getattr(most, field.name)
        if value is not None and not 1 <= value <= bound:
            raise ValueError(
                f"{field.name} {value} is not between 1 and {bound}, the value with which the engine was started"
            )
    return SchedulingLimits(*(getattr(limits, f.name) or getattr(most, f.name) for f in fields(limits)))
