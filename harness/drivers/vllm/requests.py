"""Convert requests of the harness to vLLM's types, and tokens of vLLM to the harness's type."""

from collections.abc import Sequence
from typing import Any

from harness.drivers.http_client import INJECTOR as INJECTOR
from harness.types import RequestSpec, Structure, Token

STRUCTURED_BY = "guidance"
"""vLLM's name for the library ``llguidance``. Other libraries that vLLM supports allow other white space in JSON."""


def sampling_arguments(request: RequestSpec) -> dict[str, Any]:
    """Return the arguments of vLLM's SamplingParams for a request.

    Golden tokens are passed in ``extra_args``. No tolerances are passed with them, so that the logits processor always
    replaces the model's token with the golden token, however unlikely that is.
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
        "include_stop_str_in_output": request.include_stop_str_in_output,
        "skip_special_tokens": request.skip_special_tokens,
        "logprobs": request.logprobs,
    }
    arguments |= _processors(request)
    given = request.golden_token_ids or request.simulated_token_ids
    if request.structured_outputs is not None:
        arguments["structured_outputs"] = _structured_outputs(request.structured_outputs)
    if request.prompt_logprobs is not None:
        arguments["prompt_logprobs"] = request.prompt_logprobs
    if given:
        arguments["extra_args"] = {INJECTOR: {"expected_token_ids": list(given)}}
    return arguments | {name: _as_argument(name, value) for name, value in request.unchecked.items()}


def _as_argument(name: str, value: Any) -> Any:
    """Convert a JSON value to the type of the argument of SamplingParams with this name.

    Raises ValueError if vLLM's type refuses the value.
    """
    from vllm.sampling_params import StructuredOutputsParams

    if name == "structured_outputs":
        return StructuredOutputsParams(**value)
    return {int(token_id): bias for token_id, bias in value.items()} if name == "logit_bias" else value


def tokenization_arguments(requests: Sequence[RequestSpec]) -> dict[str, Any]:
    """Return the arguments of ``LLM.generate`` for ``truncate_prompt_tokens``, {} if no request has it.

    ``LLM.generate`` takes one value for all requests of a call. Raises NotImplementedError if the requests have
    different values.
    """
    kept = {request.truncate_prompt_tokens for request in requests}
    if len(kept) > 1:
        raise NotImplementedError(
            "vLLM's offline API takes one truncate_prompt_tokens for all requests of a call, but these requests have "
            "different ones: use one call for each value"
        )
    return {} if kept <= {None} else {"tokenization_kwargs": {"truncate_prompt_tokens": kept.pop()}}


def _structured_outputs(structure: Structure) -> Any:
    """Convert a constraint for structured outputs to vLLM's StructuredOutputsParams.

    ``_backend`` is the name of the library with which vLLM applies constraints. Set it to the library with which the
    harness computes reference outputs. In vLLM the input processor sets ``_backend``, but this driver does not use the
    input processor.
    """
    from vllm.sampling_params import StructuredOutputsParams

    params = StructuredOutputsParams(**structure.arguments())
    params._backend = STRUCTURED_BY
    return params


def _processors(request: RequestSpec) -> dict[str, Any]:
    """Return the arguments of SamplingParams that change logits, such as ``presence_penalty``.

    Arguments for which the request has the default value are left out.
    """
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
    """Convert an EngineCoreOutput with exactly one token to a Token with ``alternatives`` top tokens.

    vLLM's lists of logprobs have the sampled token first, then the top tokens. They have more than ``alternatives`` top
    tokens if another request in the batch asks for more. Raises ValueError if the output does not have exactly one
    token.
    """
    (token_id,) = output.new_token_ids
    if output.new_logprobs is None:
        return Token(int(token_id))
    ids, values, ranks = output.new_logprobs[:3]
    best = slice(1, alternatives + 1)  # Arrays of numpy, and lists before vLLM 0.12.
    pairs = zip(map(int, ids[0][best]), map(float, values[0][best]), strict=True)
    return Token(int(token_id), float(values[0][0]), int(ranks[0]), tuple(pairs))


def is_refusal(error: Exception) -> bool:
    """Return whether an exception means that vLLM has refused a request: a ValueError or vLLM's VLLMClientError."""
    return isinstance(error, ValueError) or any(kind.__name__ == "VLLMClientError" for kind in type(error).__mro__)
