"""The field ``vllm_xargs``: golden tokens, which replace the sampled tokens (``SamplingParams.golden_token_ids``).

The value is a JSON string in the format of the Spyre plugins' logits processor. Source:
``vllm_spyre.v1.sample.golden_token_injector``. With the keys ``expected_logprobs`` and ``error_threshold``, the plugins
replace a token only under a condition. This server refuses these two keys, and replaces every token.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from engine.entrypoints.server.fields import Body

INJECTOR = "golden_token_injector"


class GoldenTokens(Body):
    """The keys of the JSON string. The plugins write ``label`` to their logs; it has no effect on this server."""

    expected_token_ids: Annotated[list[int], Field(min_length=1)]
    label: str | None = None


def check_extra_arguments(value: object) -> object:
    """Check ``value``, the field ``vllm_xargs`` of a request, and return it unchanged.

    Raises ValueError with one sentence unless ``value`` is None or an object with no key except INJECTOR, whose value
    is a string that contains the golden tokens as a JSON object.
    """
    if value is None:
        return value
    if not isinstance(value, dict) or set(value) - {INJECTOR}:
        raise ValueError(f"must be an object whose only key is {INJECTOR}")
    for text in value.values():
        if not isinstance(text, str):
            raise ValueError(f"{INJECTOR} must be a string that contains a JSON object")
        try:
            GoldenTokens.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{INJECTOR}: {where + ': ' if where else ''}{first['msg']}") from error
    return value


ExtraArguments = Annotated[dict[str, Any], BeforeValidator(check_extra_arguments)]


def golden_token_ids(arguments: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Return the golden tokens in ``arguments``, the field ``vllm_xargs``; () if there are none.

    ``arguments`` must be a result of ``check_extra_arguments``.
    """
    if not arguments:
        return ()
    return tuple(GoldenTokens.model_validate_json(arguments[INJECTOR]).expected_token_ids)
