"""Explain what the rules of the continuous scheduler require at a step of a case."""

from collections.abc import Sequence

from harness.schedulers.continuous.model import explain, predict
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.errors import ImpossibleWorkload
from harness.suites.schema import Request
from harness.types import RequestSpec, Run, SchedulingLimits


def by_the_rules(
    limits: SchedulingLimits, specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run, step: int
) -> str | None:
    """Return a phrase about what the rules require at step ``step``, and why the head of the queue waits.

    Return None if the driver does not report all limits, or if the rules do not allow the requests to finish. A request
    that can end before ``max_tokens`` gets as many tokens in the model as in ``run``.
    """
    try:
        return explain(limits, planned_requests(specs, timings, run), step)
    except ValueError:
        return None


def impossible(
    limits: SchedulingLimits, specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run
) -> str | None:
    """Return why the rules do not allow the requests to finish with these limits, None if they do."""
    try:
        predict(limits, planned_requests(specs, timings, run))
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None


def planned_requests(specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run) -> list[PlannedRequest]:
    """Convert the requests of a case to the form that the model needs.

    A request that can end before ``max_tokens`` gets as many tokens in the model as in ``run``.
    """
    return [
        PlannedRequest(
            len(spec.prompt_token_ids),
            spec.max_tokens,
            timing.join_step,
            timing.abort_step,
            None if timing.runs_to_max_tokens else max(1, len(tokens)),
        )
        for spec, timing, tokens in zip(specs, timings, run.tokens, strict=True)
    ]
