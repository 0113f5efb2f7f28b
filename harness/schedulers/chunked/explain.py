"""What a step of the chunked scheduler should have been, in the words of the rules and with the case's numbers."""

from collections.abc import Sequence

from harness.schedulers.chunked.model import PlannedText, explain, predict
from harness.schedulers.errors import ImpossibleWorkload
from harness.suites.schema import Request
from harness.types import ChunkingSetup, RequestSpec, Run, SchedulingLimits

UNKNOWN_TOKEN = -1
"""Stands for a token that nobody has seen: no prompt has it."""


def by_the_rules(
    limits: SchedulingLimits,
    options: ChunkingSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
    step: int,
) -> str | None:
    """What step ``step`` of a workload does by the rules; None where that cannot be said."""
    try:
        return explain(limits, options, planned_texts(specs, timings, run), step)
    except ValueError:
        return None


def impossible(
    limits: SchedulingLimits,
    options: ChunkingSetup,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    run: Run,
) -> str | None:
    """Why no engine can finish this workload under these limits; None where the rules see no reason."""
    try:
        predict(limits, options, planned_texts(specs, timings, run))
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None


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
