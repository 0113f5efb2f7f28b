"""Convert a prompt and its parameters to requests of the engine core. Used by every entry point."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.entrypoints.validation import RequestRefusedError, admit, admit_unpadded
from engine.request import Request, SamplingParams
from engine.tokenizer import Tokenizer

Prompt = str | Mapping[str, Sequence[int]]
"""A text, or ``{"prompt_token_ids": [...]}``."""


class Admitted(NamedTuple):
    """A checked prompt: its tokens, and its parameters with ``max_tokens`` filled in."""

    token_ids: tuple[int, ...]
    params: SamplingParams


def admitted(
    prompt: Prompt, params: SamplingParams, tokenizer: Tokenizer, max_model_len: int, *, padded: bool = True
) -> Admitted:
    """Check a prompt. Raises RequestRefusedError if it is empty, outside the vocabulary, or too long with
    ``max_tokens``.

    ``padded``: whether the scheduler pads prompts (``EngineConfig.pads_prompts``).
    """
    token_ids = tokenizer.encode(prompt) if isinstance(prompt, str) else tuple(prompt["prompt_token_ids"])
    size = tokenizer.vocabulary_size
    bad = next((token for token in token_ids if not 0 <= token < size), None)
    if bad is not None:
        raise RequestRefusedError(f"Could not add request: token id {bad} is outside the vocabulary of {size}.")
    bad = next((token for token in params.stop_token_ids if not 0 <= token < size), None)
    if bad is not None:
        raise RequestRefusedError(f"Could not add request: stop token id {bad} is outside the vocabulary of {size}.")
    check = admit if padded else admit_unpadded
    return Admitted(token_ids, check(len(token_ids), params, max_model_len))


def requests_for(request_id: str, prompt: Admitted) -> list[Request]:
    """Return the ``n`` requests of one prompt, one per answer, with consecutive seeds."""
    token_ids, params = prompt
    if params.n == 1:
        return [Request(request_id, token_ids, params)]
    return [
        Request(
            f"{request_id}-{index}",
            token_ids,
            replace(params, n=1, seed=None if params.seed is None else params.seed + index),
        )
        for index in range(params.n)
    ]
