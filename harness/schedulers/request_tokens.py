"""``RequestWithTokens``: a request with its token ids, in the form that scheduler models with prefix caching need."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Run

UNKNOWN_TOKEN = -1
"""Token id that stands for a token that was not observed. No prompt contains it."""
TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class RequestWithTokens:
    """A request with the token ids of its prompt, and the token ids that it generates if it is not aborted.

    ``generated`` has ``max_tokens`` token ids, or fewer if a stop condition ends the request.
    """

    prompt: TokenIds
    generated: TokenIds
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None


def requests_with_tokens(
    specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run | None
) -> list[RequestWithTokens]:
    """Convert the requests of a case to the form that a scheduler model needs.

    The generated tokens of a request are its ``simulated_token_ids`` or, if it has none, the tokens that it got in
    ``run``. Tokens that are not known are UNKNOWN_TOKEN. A request that can end before ``max_tokens`` gets as many
    tokens as in ``run``. ``run`` is None before the requests are run.
    """
    planned = []
    for number, (spec, timing) in enumerate(zip(specs, timings, strict=True)):
        seen = tuple(token.token_id for token in run.tokens[number]) if run else ()
        known = spec.simulated_token_ids or seen
        length = spec.max_tokens
        if timing.abort_step is None and not timing.runs_to_max_tokens:
            length = len(seen if run else spec.simulated_token_ids) or length
        generated = (*known, *[UNKNOWN_TOKEN] * length)[:length]
        planned.append(
            RequestWithTokens(spec.prompt_token_ids, generated, spec.max_tokens, timing.join_step, timing.abort_step)
        )
    return planned
