"""Tokens held to other tokens of the same engine: those a request gets alone, and those of its likes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.drivers.base import Session
from harness.runs.runner import run_workload
from harness.types import RequestSpec, Run, SchedulingLimits, Token, Verdict


@dataclass(frozen=True)
class _AtOnce:
    """When a request comes that is alone: now, and nobody ends it."""

    join_step: int = 0
    abort_step: int | None = None


def run_alone(session: Session, spec: RequestSpec) -> Run:
    """The request with nobody else, under the limits of the engine as it was built. Resets the session."""
    session.reset(SchedulingLimits())
    return run_workload(session, [replace(spec, request_id=0)], [_AtOnce()])


def check_alone(session: Session, spec: RequestSpec, together: Sequence[Token], *, aborted: bool) -> Verdict:
    """A request gets the tokens it gets alone; one that was aborted, the first of them. Resets the session."""
    if aborted and not together:
        return Verdict(True, f"request {spec.request_id}: aborted before it got a token")
    run = run_alone(session, spec)
    if run.unfinished is not None:
        return Verdict(False, f"request {spec.request_id}: alone, {run.unfinished}", run.traceback, data=_BROKEN)
    ids, alone = [t.token_id for t in together], [t.token_id for t in run.tokens[0]]
    if aborted:
        alone = alone[: len(ids)]
    if ids == alone:
        return Verdict(True, f"request {spec.request_id}: {len(ids)} tokens as alone", data={"token_ids": ids})
    details = (f"in company: {ids}", f"alone:      {alone}")
    return Verdict(False, f"request {spec.request_id}: {_difference(ids, alone)}", details, data={"token_ids": ids})


_BROKEN = {"broken": True}


def _difference(together: Sequence[int], alone: Sequence[int]) -> str:
    for position, (ours, lone) in enumerate(zip(together, alone, strict=False)):
        if ours != lone:
            return f"its tokens depend on its company: token {position} is {ours}, alone it is {lone}"
    return f"it got {len(together)} tokens in company and {len(alone)} alone"


def check_same(group: Sequence[int], tokens: Sequence[Sequence[Token]]) -> Verdict:
    """Requests of a group, by position, all got the same tokens."""
    ids = [[token.token_id for token in tokens[position]] for position in group]
    names = ", ".join(map(str, group))
    other = next((i for i in range(1, len(ids)) if ids[i] != ids[0]), None)
    if other is None:
        return Verdict(True, f"requests {names}: the same {len(ids[0])} tokens")
    details = tuple(f"request {position}: {each}" for position, each in zip(group, ids, strict=True))
    return Verdict(False, f"requests {group[0]} and {group[other]} should get the same tokens", details)
