"""Golden tokens over HTTP, as the Spyre plugins' logits processor takes them: ``vllm_xargs`` with JSON in a text.

Source: ``vllm_spyre.v1.sample.golden_token_injector``. The tokens are always given: without ``expected_logprobs`` and
``error_threshold`` the plugins do the same.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from engine.entrypoints.server.fields import Body

INJECTOR = "golden_token_injector"


class GoldenTokens(Body):
    """The arguments of the injector. ``label`` names it in logs of the plugins; it has no effect here."""

    expected_token_ids: Annotated[list[int], Field(min_length=1)]
    label: str | None = None


def check_extra_arguments(value: object) -> object:
    """Check ``vllm_xargs``: golden tokens as JSON in a text, and nothing else. Raises ValueError with one sentence."""
    if value is None:
        return value
    if not isinstance(value, dict) or set(value) - {INJECTOR}:
        raise ValueError(f"only {INJECTOR} is supported")
    for text in value.values():
        if not isinstance(text, str):
            raise ValueError(f"{INJECTOR} must be JSON in a text")
        try:
            GoldenTokens.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{INJECTOR}: {where + ': ' if where else ''}{first['msg']}") from error
    return value


ExtraArguments = Annotated[dict[str, Any], BeforeValidator(check_extra_arguments)]


def golden_token_ids(arguments: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Return the golden tokens in checked ``vllm_xargs``, none if there are none."""
    if not arguments:
        return ()
    return tuple(GoldenTokens.model_validate_json(arguments[INJECTOR]).expected_token_ids)
