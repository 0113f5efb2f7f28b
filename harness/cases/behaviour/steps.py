"""Check the steps of a ``generate`` action: the invariants after each step, and the ``max_steps`` of a case."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.drivers.base import Observation, Session, StepRecord
from harness.drivers.optional import steps_of_generate
from harness.latency import RequestLatency, request_latencies
from harness.runs.runner import as_step
from harness.schedulers.bars import Size
from harness.schedulers.spec import SchedulerSpec
from harness.suites.schema import Request, StepBounds
from harness.types import RequestSpec, Run, SchedulerOptions, SchedulingLimits, Token, Verdict


@dataclass(frozen=True)
class Watched:
    """An engine in this process, its effective limits, and the scheduler whose invariants are checked."""

    session: Session
    limits: SchedulingLimits
    scheduler: SchedulerSpec


def check_generate(
    watched: Watched,
    options: SchedulerOptions | None,
    specs: Sequence[RequestSpec],
    requests: Sequence[Request],
    bounds: StepBounds | None,
) -> list[Verdict]:
    """Check the steps of the engine's last ``generate`` call against the scheduler's invariants and ``bounds``.

    ``bounds`` is the ``max_steps`` of the case, None if it has none. If the driver does not report the steps, return an
    empty list or, if there are ``bounds``, a list with one failed verdict.
    """
    run = run_of_generate(watched.session, len(requests))
    if run is None:
        unknown = Verdict(False, "max_steps can't be checked: this driver does not report the steps of generate")
        return [unknown] if bounds is not None else []
    verdict = watched.scheduler.check_invariants(run, specs, requests, watched.limits, options)
    return [verdict] if bounds is None else [verdict, check_bounds(run, specs, bounds)]


def run_of_generate(session: Session, requests: int) -> Run | None:
    """Return the steps and tokens of the last ``generate`` call as a run whose requests all join at step 0.

    The result is None if the driver does not report the steps of ``generate``.
    """
    shown = steps_of_generate(session)
    if not shown:
        return None
    # Step 0 has empty values in the columns of the engine's scheduler, and None in the columns that it doesn't have.
    first = shown[0][1]
    optional = [None if column is None else () for column in first[5:]]
    tkv = None if first.tkv is None else 0
    before = Observation(tkv, tuple(range(requests)), (), 0, 0, *optional)
    steps = [as_step(0, StepRecord("start", (), (), ()), before)]
    tokens: list[list[Token]] = [[] for _ in range(requests)]
    for record, seen in shown:
        for position, token in zip(record.request_outputs, record.tokens, strict=True):
            tokens[position].append(token)
        steps.append(as_step(len(steps), record, seen))
    return Run(tuple(steps), tuple(map(tuple, tokens)))


def check_bounds(run: Run, specs: Sequence[RequestSpec], bounds: StepBounds) -> Verdict:
    """Check that no request took more steps than ``bounds`` allows.

    ``bounds`` limits the steps that a request waits in the queue, the steps from joining the queue to its first
    token, and the steps from one token to the next.
    """
    sizes = [Size(len(spec.prompt_token_ids), spec.max_tokens) for spec in specs]
    late = [line for request in request_latencies(run.steps, sizes) for line in _exceeded(request, bounds)]
    if late:
        more = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
        return Verdict(False, f"too many steps: {late[0]}{more}", tuple(late))
    allowed = ", ".join(f"{name} {most}" for name, most in bounds.model_dump(exclude_none=True).items())
    return Verdict(True, f"every request took at most the steps allowed: {allowed}")


def _exceeded(request: RequestLatency, bounds: StepBounds) -> Iterator[str]:
    for name, steps, most in (
        ("waited", request.queue, bounds.queue),
        ("got its first token after", request.first_token, bounds.first_token),
        ("got a token after", max(request.between, default=0), bounds.between),
    ):
        if most is not None and steps > most:
            yield f"request {request.request} {name} {steps:.0f} steps, at most {most} are allowed"


def labelled(label: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with ``label``, which names the action, at the start of their headlines."""
    return [replace(verdict, headline=f"{label}: {verdict.headline}") for verdict in verdicts]
