"""Requests by their tokens, as the models of schedulers that find blocks by content take them."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Run

UNKNOWN_TOKEN = -1
"""Stands for a token that was never seen: no prompt has it."""
Text = tuple[int, ...]


@dataclass(frozen=True)
class PlannedText:
    """A request by its tokens: the prompt, and all it generates unless it is aborted.

    Those are ``max_tokens``, or fewer where something else ends it.
    """

    prompt: Text
    generated: Text
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None


def planned_texts(specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run | None) -> list[PlannedText]:
    """The requests by their tokens; those of ``run`` are what was generated, where nothing says it beforehand.

    One that may end early is taken to end where it ended in ``run``.
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
