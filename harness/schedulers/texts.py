"""Requests with their tokens, for the models of schedulers with prefix caching."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Run

UNKNOWN_TOKEN = -1
"""Placeholder for a token that was never observed. No prompt contains it."""
Text = tuple[int, ...]


@dataclass(frozen=True)
class PlannedText:
    """A request with its tokens: the prompt, and all tokens it generates unless it is aborted.

    These are ``max_tokens`` tokens, or fewer if something else ends it.
    """

    prompt: Text
    generated: Text
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None


def planned_texts(specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run | None) -> list[PlannedText]:
    """Return the requests with their tokens. Generated tokens are those of ``run`` unless they are given beforehand.

    A request that may end early ends where it ended in ``run``.
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
            PlannedText(spec.prompt_token_ids, generated, spec.max_tokens, timing.join_step, timing.abort_step)
        )
    return planned
