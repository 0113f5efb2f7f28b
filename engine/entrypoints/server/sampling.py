"""Convert the body of a request to sampling parameters."""

import re
from dataclasses import replace

from engine.entrypoints.server.golden import golden_token_ids
from engine.entrypoints.server.requests import ChatRequest, CommonRequest, CompletionRequest
from engine.request import RequestOutputKind, SamplingParams, SamplingParamsError

DEFAULT_COMPLETION_TOKENS = 16
_SAME_NAMES = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "truncate_prompt_tokens",
    "prompt_logprobs",
)


def completion_params(body: CompletionRequest) -> SamplingParams:
    """Return the sampling parameters of a completion. ``max_tokens`` is 16 by default, as in OpenAI's API.

    As in vLLM, ``echo`` with ``logprobs`` also requests the logprobs of the prompt, and ``echo`` with ``max_tokens`` 0
    generates one token, which the response leaves out. Raises SamplingParamsError if a parameter is invalid.
    """
    budget = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    params = _params(body, 1 if body.echo_alone else budget, body.logprobs)
    if body.echo and body.logprobs is not None and params.prompt_logprobs is None:
        return replace(params, prompt_logprobs=body.logprobs)
    return params


def chat_params(body: ChatRequest) -> SamplingParams:
    """Return the sampling parameters of a chat completion. By default, only the context limits the number of tokens.

    Raises SamplingParamsError if a parameter is invalid.
    """
    field = budget_field(body)
    try:
        return _params(body, getattr(body, field), (body.top_logprobs or 0) if body.logprobs else None)
    except SamplingParamsError as error:
        raise SamplingParamsError(re.sub(r"\bmax_tokens\b", field, str(error))) from error


def budget_field(body: ChatRequest) -> str:
    """Return which field of a chat request limits the number of tokens: ``max_tokens`` or ``max_completion_tokens``."""
    return "max_completion_tokens" if body.max_tokens is None else "max_tokens"


def _params(body: CommonRequest, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    given = {name: value for name in _SAME_NAMES if (value := getattr(body, name)) is not None}
    given |= {} if (structure := body.structure) is None else {"structured_outputs": structure}
    given["golden_token_ids"] = golden_token_ids(body.vllm_xargs)
    kind = RequestOutputKind.DELTA if body.stream else RequestOutputKind.FINAL_ONLY
    return SamplingParams(**given, max_tokens=max_tokens, logprobs=logprobs, output_kind=kind)
