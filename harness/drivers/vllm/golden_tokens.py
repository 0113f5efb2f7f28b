"""Golden tokens in vLLM without a plugin: a logits processor of our own, by vLLM's interface for one a request."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from harness.drivers.vllm.requests import INJECTOR


class GivenTokens:
    """Gives out the tokens of one request, one for each that it has; the model's beyond them.

    vLLM calls it with the tokens generated so far and the logits of the next one, of shape [vocabulary]. Logprobs are
    not touched: vLLM takes them from the logits as they were before.
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
    """What a request's SamplingParams give in place of sampled tokens, see ``requests.py``; None where they don't."""
    given = (params.extra_args or {}).get(INJECTOR)
    return GivenTokens(given["expected_token_ids"]) if given else None


@lru_cache(maxsize=1)
def processor_class() -> type:
    """The class that vLLM makes a processor of, for every request. It is made here: its base is vLLM's."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class GoldenTokens(AdapterLogitsProcessor):  # type: ignore[misc]
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> GivenTokens | None:
            return given_tokens(params)

    return GoldenTokens
