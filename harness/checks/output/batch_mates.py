"""Compare the tokens of a request with other outputs of the same engine.

``check_alone`` compares them with the tokens that the request gets without other requests in the batch. ``check_same``
and ``check_unlike`` compare them with the tokens of other requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.drivers.base import Session
from harness.runs.runner import run_workload
from harness.types import RequestSpec, Run, SchedulingLimits, Token, Verdict


@dataclass(frozen=True)
class _Immediately:
    """The timing of a request that runs alone: it joins at step 0 and is not aborted."""

    join_step: int = 0
    abort_step: int | None = None


def run_alone(session: Session, spec: RequestSpec) -> Run:
    """Run a request without other requests in the batch, with the limits with which the engine was started.

    Resets the session.
    """
    session.reset(SchedulingLimits())
    return run_workload(session, [replace(spec, request_id=0)], [_Immediately()])


def check_alone(
    session: Session,
    spec: RequestSpec,
    together: Sequence[Token],
    *,
    aborted: bool,
    logprobs_within: float | None = None,
) -> Verdict:
    """Run a request again, without other requests in the batch, and check that it gets the same tokens.

    ``together`` are the tokens that the request got in the batch. If the request was ``aborted`` in the batch, these
    tokens need only equal the first tokens of the second run. ``logprobs_within`` is the absolute tolerance of
    logprobs, None if no logprobs are compared. Resets the session.
    """
    number = spec.request_id
    if aborted and not together:
        return Verdict(True, f"request {number}: aborted before its first token")
    run = run_alone(session, spec)
    if run.unfinished is not None:
        return Verdict(False, f"request {number}, run alone: {run.unfinished}", run.traceback, data=_BROKEN)
    ids, lone = [t.token_id for t in together], run.tokens[0][: len(together)] if aborted else run.tokens[0]
    alone = [t.token_id for t in lone]
    if ids != alone:
        details = (f"in batch:    {ids}", f"alone:      {alone}")
        return Verdict(False, f"request {number}: {_difference(ids, alone)}", details, data={"token_ids": ids})
    if logprobs_within is not None and (wrong := _logprobs_apart(together, lone, logprobs_within)):
        return Verdict(False, f"request {number}: {wrong[0]}", tuple(wrong[1:]), data={"token_ids": ids})
    also = "" if logprobs_within is None else " and logprobs"
    return Verdict(True, f"request {number}: the same {len(ids)} tokens{also} as alone", data={"token_ids": ids})


def _logprobs_apart(together: Sequence[Token], alone: Sequence[Token], within: float) -> list[str]:
    """Return an error message for each position at which a request's logprobs in the batch and alone differ too much.

    ``together`` has the request's tokens in the batch, ``alone`` the same tokens from its run without other requests.
    ``within`` is the absolute tolerance.
    """
    wrong = []
    for position, (ours, lone) in enumerate(zip(together, alone, strict=True)):
        here, there = (ours.logprob, *(v for _, v in ours.top)), (lone.logprob, *(v for _, v in lone.top))
        if len(here) != len(there):
            wrong.append(f"token {position} has {len(here) - 1} alternatives in the batch and {len(there) - 1} alone")
        elif any(x is None or y is None or not abs(x - y) <= within for x, y in zip(here, there, strict=True)):
            pair = f"{_rounded(here)} in the batch and {_rounded(there)} alone"
            wrong.append(f"the logprobs of token {position} are {pair}")
    return wrong


def _rounded(values: Sequence[float | None]) -> str:
    return ", ".join("none" if value is None else f"{value:.4f}" for value in values)


_BROKEN = {"broken": True}


def _difference(together: Sequence[int], alone: Sequence[int]) -> str:
    for position, (ours, lone) in enumerate(zip(together, alone, strict=False)):
        if ours != lone:
            return f"its tokens depend on its batch: token {position} is {ours} in the batch and {lone} alone"
    return f"got {len(together)} tokens in the batch and {len(alone)} alone"


def check_same(group: Sequence[int], tokens: Sequence[Sequence[Token]]) -> Verdict:
    """Check that all requests of a group got the same tokens. ``group`` has their positions in the case."""
    ids = [[token.token_id for token in tokens[position]] for position in group]
    names = ", ".join(map(str, group))
    other = next((i for i in range(1, len(ids)) if ids[i] != ids[0]), None)
    if other is None:
        return Verdict(True, f"requests {names}: the same {len(ids[0])} tokens")
    details = tuple(f"request {position}: {each}" for position, each in zip(group, ids, strict=True))
    return Verdict(False, f"requests {group[0]} and {group[other]} should get the same tokens", details)


def check_unlike(group: Sequence[int], tokens: Sequence[Sequence[Token]]) -> Verdict:
    """Check that no two requests of a group got the same tokens. ``group`` has their positions in the case."""
    ids = [tuple(token.token_id for token in tokens[position]) for position in group]
    names = ", ".join(map(str, group))
    for i, each in enumerate(ids):
        if each in ids[:i]:
            pair = f"requests {group[ids.index(each)]} and {group[i]}"
            return Verdict(False, f"{pair} should get different tokens", (f"both: {list(each)}",))
    return Verdict(True, f"requests {names}: all different tokens")
