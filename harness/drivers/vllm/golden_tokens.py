"""A logits processor that makes requests generate golden tokens, for vLLM without a plugin and for spyre-inference.

The golden tokens of a request are the tokens that it must generate, whatever the model's logits are.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from harness.drivers.vllm.requests import INJECTOR


class GivenTokens:
    """Makes one request generate the given tokens, and after the last of them the model's own tokens.

    vLLM calls this object with the tokens that the request has generated so far, and with the logits of its next token,
    ``[vocabulary]``. Logprobs are not affected, because vLLM computes them from the logits before processors are
    applied.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = tuple(token_ids)

    def __call__(self, output_token_ids: Sequence[int], logits: Any) -> Any:
        position = len(output_token_ids)
        if position < len(self._token_ids):
            logits.fill_(float("-inf"))
            logits[self._token_ids[position]] = 0.0
        return logits


def given_tokens(params: Any) -> GivenTokens | None:
    """Return the processor for a request with these SamplingParams, None if the request has no golden tokens.

    Golden tokens are in ``params.extra_args`` (``sampling_arguments`` in requests.py writes them there).
    """
    given = (params.extra_args or {}).get(INJECTOR)
    if isinstance(given, str):  # over HTTP, the value is a JSON string
        given = json.loads(given)
    return GivenTokens(given["expected_token_ids"]) if given else None


@lru_cache(maxsize=1)
def processor_class() -> type:
    """Return ``GoldenTokens``, the class of logits processors to pass to vLLM.

    The class is created in a function, because its base class is from vLLM, which is not imported with this module.
    """
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class GoldenTokens(AdapterLogitsProcessor):  # type: ignore[misc]
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> GivenTokens | None:
            return given_tokens(params)

    return GoldenTokens


def __getattr__(name: str) -> type:
    """Create and return the class ``GoldenTokens`` when this attribute of the module is read. Other names do not exist.

    vLLM's server imports the class by this name (``--logits-processors``).
    """
    if name == "GoldenTokens":
        return processor_class()
    raise AttributeError(name)
