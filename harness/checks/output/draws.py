"""Run requests many times, and check the distribution of their tokens: a verdict for each request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from checkpoints import Checkpoint
from harness.checks.output.distribution import (
    FALSE_ALARM,
    LARGE_SLACK,
    SLACK,
    Statistics,
    allowed_probabilities,
    statistics,
)
from harness.checks.output.policies import DEFAULT_BOUNDS
from harness.drivers.base import Session
from harness.references.compute import raw_logits
from harness.references.stopping import wanted_for
from harness.runs.runner import run_workload
from harness.suites.prompts import Vocabulary
from harness.suites.schema import Request
from harness.types import RequestSpec, SchedulingLimits, Token, Verdict

SEEDS_APART = 7919
"""Between the seeds of one request that is made again; a prime, so that those of others are seldom among them."""
NOISE = {"float32": 0.0}
"""How far off the probabilities may be, by what the engine computes in."""
LARGE_NOISE = 0.03
RULE = 'docs/scheduling-rules.md "Sampling and logprobs": what is drawn is distributed as the parameters say'


@dataclass(frozen=True)
class _Timing:
    """The step at which a request joins; it is not aborted."""

    join_step: int
    abort_step: int | None = None


def check_distributions(
    session: Session,
    limits: SchedulingLimits,
    specs: Sequence[RequestSpec],
    requests: Sequence[Request],
    draws: int,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    precision: str,
) -> list[Verdict]:
    """Run each request ``draws`` times, all in one queue, and check the drawn tokens. Resets the session.

    Requests join and leave all the time, so no request has the same batch-mates twice.
    """
    session.reset(limits)
    count = len(specs)
    copies = [_copy(spec, repeat, count) for repeat in range(draws) for spec in specs]
    timings = [_Timing(request.join_step) for _ in range(draws) for request in requests]
    run = run_workload(session, copies, timings)
    if run.unfinished is not None:
        return [Verdict(False, f"{draws} times the requests: {run.unfinished}", run.traceback, data={"broken": True})]
    alarm = FALSE_ALARM / count
    return [
        _verdict(spec, request, run.tokens[number::count], alarm, checkpoint, vocabulary, precision)
        for number, (spec, request) in enumerate(zip(specs, requests, strict=True))
    ]


def _copy(spec: RequestSpec, repeat: int, count: int) -> RequestSpec:
    seed = None if spec.seed is None else spec.seed + repeat * SEEDS_APART
    return replace(spec, request_id=repeat * count + spec.request_id, seed=seed)


def _verdict(
    spec: RequestSpec,
    request: Request,
    drawn: Sequence[Sequence[Token]],
    alarm: float,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    precision: str,
) -> Verdict:
    import torch

    number = f"request {spec.request_id}"
    rows = [tuple(token.token_id for token in tokens) for tokens in drawn]
    lengths = sorted({len(row) for row in rows})
    if lengths != [spec.max_tokens]:
        return Verdict(False, f"{number}: got {lengths} tokens, max_tokens is {spec.max_tokens}")
    logits = raw_logits(checkpoint, spec.prompt_token_ids, rows)
    wrong = list(_logprobs_off(drawn, logits, precision)) if request.logprobs is not None else []
    if wrong:
        return Verdict(False, f"{number}: {wrong[0]}", tuple(wrong[1:8]), RULE)
    asked = wanted_for(spec, vocabulary)
    if asked.forbidden:
        logits[:, : asked.forbidden_until, [t for t in asked.forbidden if t < logits.shape[-1]]] = -torch.inf
    if spec.temperature == 0:
        return _greedy(number, rows, logits, spec)
    slack, noise = SLACK.get(precision, LARGE_SLACK), NOISE.get(precision, LARGE_NOISE)
    probabilities, near = allowed_probabilities(logits, spec, slack)
    found = statistics(torch.tensor(rows), probabilities, near, noise, alarm)
    complaints = tuple(_complaints(found, rows, spec))
    if complaints:
        return Verdict(False, f"{number}: {complaints[0]}", complaints[1:], RULE)
    what = f"{found.samples} tokens distributed as they should be, within {found.distance:.3f}"
    return Verdict(True, f"{number}: {what} of {found.distance_bound:.3f}")


def _greedy(number: str, rows: Sequence[tuple[int, ...]], logits: Any, spec: RequestSpec) -> Verdict:
    best = logits.argmax(-1).tolist()
    wrong = [i for i, (row, wanted) in enumerate(zip(rows, best, strict=True)) if list(row) != wanted]
    if wrong:
        return Verdict(False, f"{number}: is greedy, and {len(wrong)} of {len(rows)} times did not get the best tokens")
    return Verdict(True, f"{number}: {len(rows)} times {spec.max_tokens} greedy tokens")


def _complaints(found: Statistics, rows: Sequence[tuple[int, ...]], spec: RequestSpec) -> Iterator[str]:
    given = {"temperature": spec.temperature, "top_k": spec.top_k, "top_p": spec.top_p % 1, "min_p": spec.min_p}
    filters = ", ".join(f"{name} {value}" for name, value in given.items() if value)
    if found.outside:
        row, place, token = found.outside[0]
        more = f" (and {len(found.outside) - 1} more)" if len(found.outside) > 1 else ""
        yield f"token {token} at place {place} of draw {row} can't be drawn with {filters}{more}"
        yield f"that draw: {list(rows[row])}"
    if found.distance > found.distance_bound:
        yield (
            f"{found.samples} tokens are not distributed as {filters} says: the distance of the distribution "
            f"functions is {found.distance:.3f}, {found.distance_bound:.3f} at most"
        )
    if found.repeats > found.repeats_bound:
        yield (
            f"{found.repeats:.0f} tokens more than expected equal the one before, {found.repeats_bound:.0f} at most: "
            "the random source does not advance"
        )


def _logprobs_off(drawn: Sequence[Sequence[Token]], logits: Any, precision: str) -> Iterator[str]:
    """Return the logprobs that differ from those of the raw logits."""
    right, bounds = logits.log_softmax(-1), DEFAULT_BOUNDS[precision]
    for row, tokens in enumerate(drawn):
        for place, token in enumerate(tokens):
            for token_id, logprob in ((token.token_id, token.logprob), *token.top):
                wanted = right[row, place, token_id].item()
                if logprob is None or not abs(logprob - wanted) <= bounds.abs_tol:
                    yield (
                        f"token {token_id} at place {place} of draw {row} has the logprob {logprob}, "
                        f"under the raw logits it is {wanted:.4f}"
                    )
