"""Golden tokens in vLLM without a plugin: a logits processor with vLLM's interface for single requests."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from harness.drivers.vllm.requests import INJECTOR


class GivenTokens:
    """Forces the given tokens of one request; after them, the model's own.

    vLLM calls it with the tokens generated so far and the logits of the next token, of shape [vocabulary]. Logprobs are
    unchanged: vLLM computes them from the logits before processing.
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
    """Return the processor for a request's SamplingParams, see ``requests.py``; None without golden tokens."""
    given = (params.extra_args or {}).get(INJECTOR)
    return GivenTokens(given["expected_token_ids"]) if given else None


@lru_cache(maxsize=1)
def processor_class() -> type:
    """Return the class that vLLM instantiates. It is created here because its base class is vLLM's."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class GoldenTokens(AdapterLogitsProcessor):  # type: ignore[misc]
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> GivenTokens | None:
            return given_tokens(params)

    return GoldenTokens
