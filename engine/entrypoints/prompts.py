"""Check a prompt and its parameters, and convert them to requests of the engine core.

All entry points use this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from engine.backends import BACKENDS
from engine.config import EngineConfig
from engine.entrypoints.validation import RequestRefusedError, admit, admit_unpadded
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.request import Request, SamplingParams
from engine.tokenizer import Tokenizer

Prompt = str | Mapping[str, Sequence[int]]
"""A string, or ``{"prompt_token_ids": [...]}``."""


class Admitted(NamedTuple):
    """A checked prompt: its token ids, and its parameters with ``max_tokens`` filled in."""

    token_ids: tuple[int, ...]
    params: SamplingParams


def admitted(
    prompt: Prompt, params: SamplingParams, tokenizer: Tokenizer, max_model_len: int, *, padded: bool = True
) -> Admitted:
    """Check a prompt and its parameters, and return both as the argument of ``requests_for``.

    ``padded`` is ``EngineConfig.pads_prompts``. Raises RequestRefusedError if the prompt is empty or does not fit the
    context, or if a token id is outside the vocabulary.
    """
    token_ids = tokenizer.encode(prompt) if isinstance(prompt, str) else tuple(prompt["prompt_token_ids"])
    for name, ids, field in (
        ("token id", token_ids, None),
        ("stop token id", params.stop_token_ids, "stop_token_ids"),
        ("logit_bias: token id", [token_id for token_id, _ in params.biases], "logit_bias"),
        ("allowed token id", params.allowed_token_ids or (), "allowed_token_ids"),
        ("golden token id", params.golden_token_ids, "vllm_xargs"),
    ):
        _check_vocabulary(name, ids, tokenizer.vocabulary_size, field)
    token_ids = truncated(token_ids, params, max_model_len, padded=padded)
    check = admit if padded else admit_unpadded
    return Admitted(token_ids, check(len(token_ids), with_bad_words(params, tokenizer), max_model_len))


def check_prompt_logprobs(config: EngineConfig, params: SamplingParams) -> None:
    """Raise RequestRefusedError if logprobs of the prompt are requested from a backend that compiles the model."""
    if params.prompt_logprobs is not None and BACKENDS[config.backend].compiled:
        raise RequestRefusedError(
            f"Could not add request: prompt_logprobs need the logits of every position, but the graphs of backend "
            f"{config.backend} return those of the last block only. Please use backend eager.",
            "prompt_logprobs",
        )


def _check_vocabulary(name: str, token_ids: Sequence[int], size: int, field: str | None) -> None:
    outside = next((token for token in token_ids if not 0 <= token < size), None)
    if outside is not None:
        raise RequestRefusedError(
            f"Could not add request: {name} {outside} is outside the vocabulary of {size}.", field
        )


def truncated(
    token_ids: tuple[int, ...], params: SamplingParams, max_model_len: int, *, padded: bool
) -> tuple[int, ...]:
    """Return the last ``truncate_prompt_tokens`` token ids of a prompt, or all if that parameter is None.

    The value -1 keeps as many token ids as leave room for one new token, as in vLLM 0.32
    (``TokenizeParams.max_truncation_tokens``). With ``padded`` (the scheduler pads prompts), this number is rounded
    down to whole blocks. Raises RequestRefusedError if ``truncate_prompt_tokens`` exceeds ``max_model_len``, as vLLM
    does.
    """
    keep = params.truncate_prompt_tokens
    if keep is None:
        return token_ids
    if keep > max_model_len:
        raise RequestRefusedError(
            f"Could not add request: truncate_prompt_tokens {keep} is greater than max_model_len {max_model_len}.",
            "truncate_prompt_tokens",
        )
    if keep == -1:
        longest = max_model_len - 1
        keep = longest - longest % BLOCK_SIZE if padded else longest
    return token_ids[-keep:] if keep else ()


def with_bad_words(params: SamplingParams, tokenizer: Tokenizer) -> SamplingParams:
    """Return ``params`` with ``bad_words_token_ids``, the token ids of its ``bad_words``.

    A bad word has up to two lists of token ids: one for the word at the start of a text, and one for the word after a
    space. Source: ``SamplingParams.update_from_tokenizer`` of vLLM.
    """
    if not params.bad_words:
        return params
    found: list[tuple[int, ...]] = []
    for word in params.bad_words:
        plain = tokenizer.encode_plain(word.lstrip())
        spaced = tokenizer.encode_plain(" " + word.lstrip())
        found.append(plain)
        if spaced[0] != plain[0] and len(spaced) == len(plain):
            found.append(spaced)
    return replace(params, bad_words_token_ids=tuple(found))


def requests_for(request_id: str, prompt: Admitted) -> list[Request]:
    """Return the ``n`` requests of a prompt, one per answer.

    If the parameters have a seed, answer ``i`` gets the seed plus ``i``.
    """
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
