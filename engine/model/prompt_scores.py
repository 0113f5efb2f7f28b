"""Logprobs of prompts: the logits at a prompt position give the logprob of the next prompt token.

As in vLLM (``_get_prompt_logprobs_dict`` of ``vllm.v1.worker.gpu_model_runner``), logprobs are computed chunk by chunk
while the prompt is computed, from the raw logits.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from engine.model.sampler import with_logprobs
from engine.scheduling.plan import PromptPart, Runnable, prompt_parts
from engine.sequence import SequenceState


class PromptLogits(NamedTuple):
    """The logits (float32 ``[n, vocabulary]``) of ``n`` consecutive positions of a request, the first at ``start``."""

    request_id: str
    start: int
    values: Tensor


class StepLogits(NamedTuple):
    """The results of a step: ``rows``, the logits to sample from, and ``prompts``, the logits of prompt tokens.

    ``rows`` is float32 ``[rows, vocabulary]``.
    """

    rows: Tensor
    prompts: tuple[PromptLogits, ...] = ()


def wanted_parts(plan: Runnable, sequences: Mapping[str, SequenceState]) -> tuple[PromptPart, ...]:
    """Return which prompt tokens of a step need logits, because their request has ``prompt_logprobs``."""
    parts = prompt_parts(plan)
    return tuple([part for part in parts if sequences[part.request_id].wants_logprobs_of_its_prompt])


def store_prompt_logprobs(logits: PromptLogits, sequence: SequenceState) -> None:
    """Compute logprobs of prompt tokens from ``logits``, and store them in ``sequence``.

    The logits at a position give the logprob of the next token. The logits at the last prompt token are not used,
    because the token after it is generated.
    """
    prompt, count = sequence.request.prompt_token_ids, sequence.params.prompt_logprobs
    following = prompt[logits.start + 1 : logits.start + 1 + len(logits.values)]
    if following:
        found = with_logprobs(logits.values[: len(following)], following, [count] * len(following))
        for place, token in enumerate(found, start=logits.start + 1):
            sequence.prompt_tokens[place] = token
