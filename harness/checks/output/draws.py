"""Run each request of a case many times, and check that its tokens are distributed as its sampling parameters say."""

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
"""Difference between the seeds of consecutive runs of a request. It is prime, so that requests seldom share a seed."""
NOISE = {"float32": 0.0}
"""Maximum error of the probabilities, by the precision in which the engine computes.

Precisions that are not listed have ``LARGE_NOISE``.
"""
LARGE_NOISE = 0.03
RULE = 'docs/scheduling-rules.md "Sampling and logprobs": tokens are distributed as the sampling parameters say'


@dataclass(frozen=True)
class _Timing:
    """The timing of a request that joins at ``join_step`` and is not aborted."""

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
    """Run each request ``draws`` times with different seeds, and check the distribution of its tokens.

    Return a verdict for each request. All runs of all requests wait in the same queue, so that a request is batched
    with other requests in each of its runs. Resets the session.
    """
    session.reset(limits)
    count = len(specs)
    copies = [_copy(spec, repeat, count) for repeat in range(draws) for spec in specs]
    timings = [_Timing(request.join_step) for _ in range(draws) for request in requests]
    run = run_workload(session, copies, timings)
    if run.unfinished is not None:
        what = f"not all {draws} runs of each request were completed: {run.unfinished}"
        return [Verdict(False, what, run.traceback, data={"broken": True})]
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
        seen = ", ".join(map(str, lengths))
        return Verdict(False, f"{number}: runs have {seen} tokens, but each must have max_tokens ({spec.max_tokens})")
    logits = raw_logits(checkpoint, spec.prompt_token_ids, rows)
    wrong = list(_logprobs_off(drawn, logits, precision)) if request.logprobs is not None else []
    if wrong:
        return Verdict(False, f"{number}: {wrong[0]}", tuple(wrong[1:8]), RULE)
    wanted = wanted_for(spec, vocabulary)
    if wanted.forbidden:
        logits[:, : wanted.forbidden_until, [t for t in wanted.forbidden if t < logits.shape[-1]]] = -torch.inf
    if spec.temperature == 0:
        return _greedy(number, rows, logits, spec)
    slack, noise = SLACK.get(precision, LARGE_SLACK), NOISE.get(precision, LARGE_NOISE)
    probabilities, near = allowed_probabilities(logits, spec, slack)
    found = statistics(torch.tensor(rows), probabilities, near, noise, alarm)
    complaints = tuple(_complaints(found, rows, spec))
    if complaints:
        return Verdict(False, f"{number}: {complaints[0]}", complaints[1:], RULE)
    what = f"{found.samples} tokens have the expected distribution: distance {found.distance:.3f}"
    return Verdict(True, f"{number}: {what}, at most {found.distance_bound:.3f} allowed")


def _greedy(number: str, rows: Sequence[tuple[int, ...]], logits: Any, spec: RequestSpec) -> Verdict:
    best = logits.argmax(-1).tolist()
    wrong = [i for i, (row, wanted) in enumerate(zip(rows, best, strict=True)) if list(row) != wanted]
    if wrong:
        what = f"greedy, but {len(wrong)} of {len(rows)} runs have a token that is not the most likely one"
        return Verdict(False, f"{number}: {what}")
    what = f"greedy, and all {len(rows)} runs have the most likely token at each of {spec.max_tokens} positions"
    return Verdict(True, f"{number}: {what}")


def _complaints(found: Statistics, rows: Sequence[tuple[int, ...]], spec: RequestSpec) -> Iterator[str]:
    given = {"temperature": spec.temperature, "top_k": spec.top_k, "top_p": spec.top_p % 1, "min_p": spec.min_p}
    filters = ", ".join(f"{name} {value}" for name, value in given.items() if value)
    if found.outside:
        row, place, token = found.outside[0]
        more = f" (and {len(found.outside) - 1} more)" if len(found.outside) > 1 else ""
        yield f"token {token} at position {place} of run {row} can't be drawn with {filters}{more}"
        yield f"the tokens of run {row}: {list(rows[row])}"
    if found.distance > found.distance_bound:
        yield (
            f"{found.samples} tokens are not distributed as {filters} requires: the distance between the observed and "
            f"the expected distribution is {found.distance:.3f}, at most {found.distance_bound:.3f} allowed"
        )
    if found.repeats > found.repeats_bound:
        yield (
            f"{found.repeats:.0f} more tokens than expected equal the token before them, at most "
            f"{found.repeats_bound:.0f} allowed: check that the random number generator advances"
        )


def _logprobs_off(drawn: Sequence[Sequence[Token]], logits: Any, precision: str) -> Iterator[str]:
    """Yield an error message for each logprob of the engine that is not close to the one from the reference's logits.

    ``drawn`` has the tokens of each run of a request. ``logits`` are the reference's logits for these tokens, without
    temperature and filters, ``[runs, positions, vocabulary]``.
    """
    right, bounds = logits.log_softmax(-1), DEFAULT_BOUNDS[precision]
    for row, tokens in enumerate(drawn):
        for place, token in enumerate(tokens):
            for token_id, logprob in ((token.token_id, token.logprob), *token.top):
                wanted = right[row, place, token_id].item()
                if logprob is None or not abs(logprob - wanted) <= bounds.abs_tol:
                    yield (
                        f"token {token_id} at position {place} of run {row} has the logprob {logprob}, "
                        f"under the raw logits it is {wanted:.4f}"
                    )
