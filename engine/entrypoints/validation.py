"""Check whether a request fits the context. Every entry point does this before it queues a request.

Source: docs/scheduling-rules.md, "Limits".
"""

from dataclasses import replace

from engine.kv_cache.blocks import round_up_to_block
from engine.request import SamplingParams


class RequestRefusedError(ValueError):
    """The request can never run on this engine. The message has the words that the Spyre plugins use.

    ``field`` is the parameter that the message is about; None if it is about the prompt.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def admit(prompt_length: int, params: SamplingParams, max_model_len: int) -> SamplingParams:
    """Check a request for a scheduler that pads prompts, and return its parameters with ``max_tokens`` filled in.

    If ``max_tokens`` is None, it becomes the number of tokens for which the context has room, at least 1. Raises
    RequestRefusedError if the prompt is empty, or if padded prompt plus ``max_tokens`` exceeds ``max_model_len``.
    """
    if prompt_length < 1:
        raise RequestRefusedError("Could not add request: the prompt is empty.")
    padded = round_up_to_block(prompt_length)
    budget = params.max_tokens
    if budget is None:
        budget = max(1, max_model_len - padded)
    if padded + budget > max_model_len:
        raise RequestRefusedError(
            f"Could not add request: prompt length is {prompt_length} tokens, which gets padded to "
            f"{padded} tokens, maximum number of output tokens is {budget} tokens, but max model "
            f"context length is {max_model_len}.",
            "max_tokens" if padded < max_model_len else None,
        )
    return replace(params, max_tokens=budget)


def admit_unpadded(prompt_length: int, params: SamplingParams, max_model_len: int) -> SamplingParams:
    """Check a request for a scheduler that does not pad prompts, and return its parameters with ``max_tokens`` set.

    If ``max_tokens`` is None, it becomes the number of tokens for which the context has room. A larger ``max_tokens``
    is accepted: the request ends when the context is full (docs/scheduling-rules-token-budget.md, "Beyond the rules").
    Raises RequestRefusedError if the prompt is empty, or leaves no room for one new token.
    """
    if prompt_length < 1:
        raise RequestRefusedError("Could not add request: the prompt is empty.")
    if prompt_length >= max_model_len:
        raise RequestRefusedError(
            f"Could not add request: prompt length is {prompt_length} tokens, which leaves no room for an output "
            f"token, since max model context length is {max_model_len}."
        )
    return replace(params, max_tokens=max_model_len - prompt_length) if params.max_tokens is None else params
