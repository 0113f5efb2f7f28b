"""Checks of every entry point before a request reaches the core ("Limits")."""

from dataclasses import replace

from engine.kv_cache.blocks import round_up_to_block
from engine.request import SamplingParams


class RequestRefusedError(ValueError):
    """A request that can never run on this engine; the message is that of the plugin."""


def admit(prompt_length: int, params: SamplingParams, max_model_len: int) -> SamplingParams:
    """Check a request and return its parameters with ``max_tokens`` filled in.

    Raises RequestRefusedError if the padded prompt plus ``max_tokens`` exceeds ``max_model_len`` tokens.
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
            f"context length is {max_model_len}."
        )
    return replace(params, max_tokens=budget)


def admit_unpadded(prompt_length: int, params: SamplingParams, max_model_len: int) -> SamplingParams:
    """As ``admit`` where nothing is padded (docs/scheduling-rules-token-budget.md): what does not fit is cut off.

    Raises RequestRefusedError where the prompt leaves no room for one token.
    """
    if prompt_length < 1:
        raise RequestRefusedError("Could not add request: the prompt is empty.")
    if prompt_length >= max_model_len:
        raise RequestRefusedError(
            f"Could not add request: prompt length is {prompt_length} tokens, which leaves no room for an output "
            f"token, since max model context length is {max_model_len}."
        )
    return replace(params, max_tokens=max_model_len - prompt_length) if params.max_tokens is None else params
