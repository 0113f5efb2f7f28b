"""Convert requests to vLLM's types, and vLLM's tokens to those of the harness."""

from typing import Any

from harness.types import RequestSpec, Structure, Token

INJECTOR = "golden_token_injector"
STRUCTURED_BY = "guidance"
"""vLLM's name of llguidance: other libraries allow other white space in JSON."""


def sampling_arguments(request: RequestSpec) -> dict[str, Any]:
    """Return arguments of vLLM's SamplingParams for a request.

    Golden tokens have no tolerances: the plugin's injector returns them whatever the model's logits.
    """
    arguments: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "min_tokens": request.min_tokens,
        "ignore_eos": request.ignore_eos,
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "seed": request.seed,
        "stop": list(request.stop),
        "stop_token_ids": list(request.stop_token_ids),
        "logprobs": request.logprobs,
    }
    arguments |= _processors(request)
    given = request.golden_token_ids or request.simulated_token_ids
    if request.structured_outputs is not None:
        arguments["structured_outputs"] = _structured_outputs(request.structured_outputs)
    if given:
        arguments["extra_args"] = {INJECTOR: {"expected_token_ids": list(given)}}
    return arguments


def _structured_outputs(structure: Structure) -> Any:
    """Return vLLM's parameters, for the library with which references are computed.

    The core takes the library from the request; vLLM's input processor, which is not used, would write it there.
    """
    from vllm.sampling_params import StructuredOutputsParams

    params = StructuredOutputsParams(**structure.arguments())
    params._backend = STRUCTURED_BY
    return params


def _processors(request: RequestSpec) -> dict[str, Any]:
    """Return the arguments that change logits, as far as the request has them."""
    wanted: dict[str, tuple[Any, Any]] = {
        "presence_penalty": (request.presence_penalty, 0.0),
        "frequency_penalty": (request.frequency_penalty, 0.0),
        "repetition_penalty": (request.repetition_penalty, 1.0),
        "logit_bias": (dict(request.logit_bias), {}),
        "allowed_token_ids": (request.allowed_token_ids and list(request.allowed_token_ids), None),
        "bad_words": (list(request.bad_words), []),
    }
    return {name: value for name, (value, default) in wanted.items() if value != default}


def token_of(output: Any, alternatives: int) -> Token:
    """Return the only token of an EngineCoreOutput, with ``alternatives`` top tokens.

    Rows of logprobs are as long as the longest of the batch; the sampled token is first, then the top tokens. Raises
    ValueError if there is not exactly one token.
    """
    (token_id,) = output.new_token_ids
    if output.new_logprobs is None:
        return Token(int(token_id))
    ids, values, ranks = output.new_logprobs[:3]
    pairs = zip(ids[0][1 : alternatives + 1].tolist(), values[0][1 : alternatives + 1].tolist(), strict=True)
    return Token(int(token_id), float(values[0][0]), int(ranks[0]), tuple(pairs))


def is_refusal(error: Exception) -> bool:
    """Return whether vLLM refused a request with this exception: a ValueError, or since 0.27 its VLLMClientError."""
    return isinstance(error, ValueError) or any(kind.__name__ == "VLLMClientError" for kind in type(error).__mro__)
